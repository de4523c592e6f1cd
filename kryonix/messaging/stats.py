"""The figures of a tenant's queues, read from the broker's management API."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import quote, urlsplit

import httpx

from kryonix.certificates.trust import context, why
from kryonix.messaging.configuration import MANAGEMENT_VARIABLE, Address
from kryonix.messaging.errors import StatsUnavailable
from kryonix.topology.catalog import Catalog
from kryonix.topology.naming import PRIORITIES, Names, stats_user

QueueKind = Literal["action", "lane", "retry", "dead-letter", "unrouted", "other"]

_COLUMNS: Final = (
    "name",
    "messages",
    "messages_ready",
    "messages_unacknowledged",
    "consumers",
    "message_stats.publish_details.rate",
    "message_stats.deliver_get_details.rate",
    "message_stats.ack_details.rate",
)
_PARAMETERS: Final = {"columns": ",".join(_COLUMNS), "disable_stats": "false"}
_SUFFIX: Final = re.compile(rf"(?P<lane>\.(?:{'|'.join(PRIORITIES)}))?(?P<retry>\.retry\.[0-9]+)?")
"""The end of a queue's name, behind its action's."""


@dataclass(frozen=True, slots=True)
class QueueStats:
    """Figures of one queue, a few seconds old. Rates are messages per second."""

    name: str
    module: str | None
    action: str | None
    kind: QueueKind
    depth: int
    """Ready and unacknowledged messages."""
    ready: int
    unacked: int
    consumers: int
    publish_rate: float
    deliver_rate: float
    ack_rate: float


def read_stats(figures: Mapping[str, Any], names: Names, catalog: Catalog) -> QueueStats:
    """Return the stats of one queue of the management API. A new queue without figures counts as empty."""
    name = str(figures["name"])
    module, action, kind = _identity(name, names, catalog)
    rates = figures.get("message_stats") or {}
    return QueueStats(
        name=name,
        module=module,
        action=action,
        kind=kind,
        depth=figures.get("messages") or 0,
        ready=figures.get("messages_ready") or 0,
        unacked=figures.get("messages_unacknowledged") or 0,
        consumers=figures.get("consumers") or 0,
        publish_rate=_rate(rates, "publish_details"),
        deliver_rate=_rate(rates, "deliver_get_details"),
        ack_rate=_rate(rates, "ack_details"),
    )


def _rate(rates: Mapping[str, Any], name: str) -> float:
    return float((rates.get(name) or {}).get("rate") or 0.0)


def _identity(name: str, names: Names, catalog: Catalog) -> tuple[str | None, str | None, QueueKind]:
    if name == names.unrouted:
        return None, None, "unrouted"
    for module, of_module in catalog.modules.items():
        for action in of_module.actions:
            if name == names.dead_letter_queue(module, action):
                return module, action, "dead-letter"
            queue = names.queue(module, action)
            if name.startswith(queue) and (suffix := _SUFFIX.fullmatch(name.removeprefix(queue))):
                return module, action, "retry" if suffix["retry"] else "lane" if suffix["lane"] else "action"
    return None, None, "other"


async def queue_figures(
    address: Address, timeout: float, trust: ssl.SSLContext | None = None
) -> Sequence[Mapping[str, Any]]:
    """Return the management API's figures of all queues of the vhost, from the first node that gives them.

    `trust` verifies its certificate; None: the system's CAs do. Raises StatsUnavailable.
    """
    if address.management_url is None:
        remedy = f"Pass management_url to connect(), or set {MANAGEMENT_VARIABLE}; `kryonix outputs` prints it"
        raise StatsUnavailable("no management API address", remedy=remedy)
    deadline = asyncio.get_running_loop().time() + timeout
    urls = list(dict.fromkeys(url.rstrip("/") for url in (address.management_url, *address.management_urls)))
    silent: list[StatsUnavailable] = []
    for number, url in enumerate(urls):
        left = (deadline - asyncio.get_running_loop().time()) / (len(urls) - number)
        try:
            return await _figures_at(url, address, max(left, 0.0), trust)
        except _Silent as error:
            silent.append(error)
    raise StatsUnavailable("; ".join(error.problem for error in silent)) from silent[0].__cause__


class _Silent(StatsUnavailable):
    """A node gives no answer, or none that can be used. Another may."""


async def _figures_at(
    url: str, address: Address, timeout: float, trust: ssl.SSLContext | None
) -> Sequence[Mapping[str, Any]]:
    queues = f"{url}/api/queues/{quote(address.vhost, safe='')}"
    verify = (trust or context(None)) if url.startswith("https:") else False
    try:
        # httpx times each read: a server sending byte by byte could go on for ever.
        # With a transport of its own it ignores the environment's proxies, as AMQP and the platform's commands do.
        client = httpx.AsyncClient(timeout=timeout, transport=httpx.AsyncHTTPTransport(verify=verify))
        async with asyncio.timeout(timeout), client:
            # The application's user is for an older platform, which has no stats user yet.
            for user in (stats_user(address.username), address.username):
                login = (user, address.password)
                response = await client.get(queues, params=_PARAMETERS, auth=login)
                if response.status_code != httpx.codes.UNAUTHORIZED:
                    break
        answer = response.json() if response.is_success else None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, RecursionError, TimeoutError) as error:
        reason = why(error, urlsplit(url).netloc) or f"{type(error).__name__}: {error}".removesuffix(": ")
        raise _Silent(f"{queues} gives no figures ({reason})") from error
    if response.status_code in (401, 403):
        user = stats_user(address.username)
        remedy = f"Check user and password in the AMQP URI: figures are read as {user}, with the same password"
        raise StatsUnavailable(f"{queues} refuses {user} ({response.status_code})", remedy=remedy)
    if not response.is_success:
        raise _Silent(f"{queues} gives no figures (HTTP status {response.status_code})")
    if not isinstance(answer, list) or not all(isinstance(queue, dict) and "name" in queue for queue in answer):
        raise _Silent(f"{queues} does not answer with a list of queues")
    return answer
