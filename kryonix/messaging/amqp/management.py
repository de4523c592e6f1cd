"""Reading the figures of a tenant's queues from the broker's management API, as the tenant's user for figures."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import httpx

from kryonix.messaging.configuration import MANAGEMENT_VARIABLE, Address
from kryonix.messaging.errors import StatsUnavailable
from kryonix.topology.naming import stats_user

__all__ = ["queue_figures"]

_COLUMNS: Final = ",".join(
    (
        "name",
        "messages",
        "messages_ready",
        "messages_unacknowledged",
        "consumers",
        "message_stats.publish_details.rate",
        "message_stats.deliver_get_details.rate",
        "message_stats.ack_details.rate",
    )
)


async def queue_figures(address: Address, timeout: float) -> Sequence[Mapping[str, Any]]:
    """All queues of the tenant's vhost. Raises StatsUnavailable: what can't be read is never taken for zero."""
    if address.management_url is None:
        remedy = f"Pass management_url to connect(), or set {MANAGEMENT_VARIABLE}; `kryonix outputs` prints it"
        raise StatsUnavailable("no address of the management API", remedy=remedy)
    url = f"{address.management_url.rstrip('/')}/api/queues/{quote(address.vhost, safe='')}"
    try:
        # httpx times each read, so that a server which trickles could go on for ever.
        async with asyncio.timeout(timeout), httpx.AsyncClient(timeout=timeout) as client:
            response = await _ask(client, url, address)
        answer = response.json() if response.is_success else None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, RecursionError, TimeoutError) as error:
        raise StatsUnavailable(f"{url} gives no figures ({type(error).__name__}: {error})") from error
    if response.status_code in (401, 403):
        user = stats_user(address.username)
        remedy = f"Check user and password in the AMQP URI: figures are read as {user}, with the same password"
        raise StatsUnavailable(f"{url} refuses {user} ({response.status_code})", remedy=remedy)
    if not response.is_success:
        raise StatsUnavailable(f"{url} gives no figures (HTTP status {response.status_code})")
    if not isinstance(answer, list) or not all(isinstance(queue, dict) and "name" in queue for queue in answer):
        raise StatsUnavailable(f"{url} answers with something else than a list of queues")
    return answer


async def _ask(client: httpx.AsyncClient, url: str, address: Address) -> httpx.Response:
    """Ask as the user for figures; as the application's where a platform of an older version has no such user yet."""
    for user in (stats_user(address.username), address.username):
        login = (user, address.password)
        response = await client.get(url, params={"columns": _COLUMNS, "disable_stats": "false"}, auth=login)
        if response.status_code != httpx.codes.UNAUTHORIZED:
            break
    return response
