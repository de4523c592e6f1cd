"""The broker's management API, for state and settings without a resource in the provider plugin."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import aio_pika
import httpx
from pamqp.commands import Queue

from components.errors import BrokerAnswersBadly, BrokerRefuses, BrokerUnreachable

_TIMEOUT: Final = httpx.Timeout(30, connect=3)

_RELIABLE_S: Final = 0.2  # a later zero may be the broker's, for a queue that did not respond
_COUNTS_AGE_S: Final = 8  # a quorum queue reports its counts every 5 s, and later on a busy broker
_LIVE_TOTALS: Final = {"disable_stats": "true", "enable_queue_totals": "true"}


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerAccess:
    """A broker's addresses, as seen from an administrator's machine, and the user's credentials."""

    management_url: str
    username: str
    password: str = field(repr=False)
    amqp_host: str
    amqp_port: int


@dataclass(frozen=True, slots=True)
class VhostState:
    """An existing vhost."""

    name: str
    description: str


@dataclass(frozen=True, slots=True)
class QueueState:
    """An existing queue with its number of messages, ready and unacknowledged."""

    vhost: str
    name: str
    arguments: Mapping[str, Any]
    messages: int


@dataclass(frozen=True, slots=True)
class BindingState:
    """A queue's binding, with everything needed to create it again."""

    vhost: str
    source: str
    queue: str
    routing_key: str
    arguments: Mapping[str, Any]
    properties_key: str

    @property
    def path(self) -> str:
        return f"bindings/{_quoted(self.vhost)}/e/{_quoted(self.source)}/q/{_quoted(self.queue)}"


@dataclass(frozen=True, slots=True)
class Filling:
    """A queue's messages and bytes, up to 5 s old, and its effective policy."""

    vhost: str
    name: str
    messages: int
    message_bytes: int
    policy: Mapping[str, Any]


_Answer = Queue.DeclareOk
_Answers = dict[tuple[str, str], Queue.DeclareOk]


class Management:
    """A client of one broker. Every call may raise BrokerUnreachable."""

    def __init__(self, access: BrokerAccess) -> None:
        self._access = access
        self._http = httpx.Client(
            base_url=f"{access.management_url}/api/",
            auth=(access.username, access.password),
            timeout=_TIMEOUT,
            transport=httpx.HTTPTransport(retries=1),
        )

    def __enter__(self) -> Management:
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.close()

    def vhosts(self) -> list[VhostState]:
        return [VhostState(v["name"], v.get("description") or "") for v in self._call("GET", "vhosts").json()]

    def queues(self, vhost: str | None = None) -> list[QueueState]:
        """Return all queues, or one vhost's; none for an unknown vhost."""
        path = "queues" if vhost is None else f"queues/{_quoted(vhost)}"
        response = self._call("GET", path, params=_LIVE_TOTALS, absent_is_fine=True)
        found = [] if response.status_code == httpx.codes.NOT_FOUND else response.json()
        return [QueueState(q["vhost"], q["name"], q["arguments"], q.get("messages", 0)) for q in found]

    def fillings(self, vhost: str | None = None) -> list[Filling]:
        """Return the fillings of all queues, or of one vhost's; none for an unknown vhost."""
        path = "queues" if vhost is None else f"queues/{_quoted(vhost)}"
        asked = {"columns": "vhost,name,messages,message_bytes,effective_policy_definition"}
        response = self._call("GET", path, params=asked, absent_is_fine=True)
        found = [] if response.status_code == httpx.codes.NOT_FOUND else response.json()
        return [
            Filling(
                vhost=q["vhost"],
                name=q["name"],
                messages=q.get("messages", 0),
                message_bytes=q.get("message_bytes", 0),
                policy=q.get("effective_policy_definition") or {},
            )
            for q in found
        ]

    def bindings(self, queue: QueueState) -> list[BindingState]:
        """Return a queue's bindings, without the one to the default exchange, which every queue has."""
        path = f"queues/{_quoted(queue.vhost)}/{_quoted(queue.name)}/bindings"
        response = self._call("GET", path, absent_is_fine=True)
        found = [] if response.status_code == httpx.codes.NOT_FOUND else response.json()
        return [
            BindingState(queue.vhost, b["source"], queue.name, b["routing_key"], b["arguments"], b["properties_key"])
            for b in found
            if b["source"]
        ]

    def bind(self, binding: BindingState) -> None:
        """Create a binding, unless its exchange or its queue is gone."""
        body = {"routing_key": binding.routing_key, "arguments": dict(binding.arguments)}
        self._call("POST", binding.path, json=body, absent_is_fine=True)

    def unbind(self, binding: BindingState) -> None:
        self._call("DELETE", f"{binding.path}/{_quoted(binding.properties_key)}", absent_is_fine=True)

    def answers(self) -> bool:
        """Return True if a broker answers, even with an error."""
        try:
            self._call("GET", "whoami")
        except (BrokerAnswersBadly, BrokerRefuses):
            return True
        except BrokerUnreachable:
            return False
        return True

    def note(self, name: str) -> Any:
        """Return the value of a global parameter, or None."""
        response = self._call("GET", f"global-parameters/{_quoted(name)}", absent_is_fine=True)
        return None if response.status_code == httpx.codes.NOT_FOUND else response.json()["value"]

    def notes(self, prefix: str) -> dict[str, Any]:
        """Return the global parameters with this prefix, by name."""
        found = self._call("GET", "global-parameters").json()
        return {entry["name"]: entry["value"] for entry in found if entry["name"].startswith(prefix)}

    def put_note(self, name: str, value: Any) -> None:
        self._call("PUT", f"global-parameters/{_quoted(name)}", json={"name": name, "value": value})

    def drop_note(self, name: str) -> None:
        self._call("DELETE", f"global-parameters/{_quoted(name)}", absent_is_fine=True)

    def users(self, vhost: str) -> list[str]:
        """Return the users with permissions in a vhost, except this client's."""
        response = self._call("GET", f"vhosts/{_quoted(vhost)}/permissions", absent_is_fine=True)
        found = [] if response.status_code == httpx.codes.NOT_FOUND else response.json()
        return sorted(entry["user"] for entry in found if entry["user"] != self._access.username)

    def close_connections(self, user: str) -> None:
        """Close all connections of a user."""
        path = f"connections/username/{_quoted(user)}"
        self._call("DELETE", path, headers={"X-Reason": "the tenant is being removed"}, absent_is_fine=True)

    def set_user_limit(self, user: str, limit: str, value: int) -> None:
        self._call("PUT", f"user-limits/{_quoted(user)}/{limit}", json={"value": value})

    def user_limits(self, user: str) -> dict[str, int]:
        """Return a user's limits; empty for an unknown user."""
        response = self._call("GET", f"user-limits/{_quoted(user)}", absent_is_fine=True)
        found = [] if response.status_code == httpx.codes.NOT_FOUND else response.json()
        return {limit: value for entry in found for limit, value in entry["value"].items()}

    def protected(self, vhost: str) -> bool | None:
        """Return True if a vhost is protected from deletion; None if it does not exist."""
        response = self._call("GET", f"vhosts/{_quoted(vhost)}", absent_is_fine=True)
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        return bool(response.json()["protected_from_deletion"])

    def protect(self, vhost: str, *, protected: bool) -> None:
        """Switch a vhost's protection from deletion. Accepts switching it off for a missing vhost."""
        path = f"vhosts/{_quoted(vhost)}/deletion/protection"
        self._call("POST" if protected else "DELETE", path, absent_is_fine=not protected)

    def exact(self, queues: list[QueueState]) -> list[QueueState]:
        """Return the queues with current message counts; those of the API are up to 5 s old.

        Ready messages are counted over AMQP. For unacknowledged messages, and for vhosts without free connections, wait
        until the API's counts are new.
        """
        with self._translated():
            answers = asyncio.run(_ask_queues(self._access, queues))
        found = [_with_ready(queue, answers) for queue in queues]
        unsure = {queue.vhost for queue in queues if _unsure(queue, answers)}
        if not unsure:
            return found
        time.sleep(_COUNTS_AGE_S)
        renewed = {(q.vhost, q.name): q for vhost in sorted(unsure) for q in self.queues(vhost)}
        return [renewed.get((queue.vhost, queue.name), queue) for queue in found]

    def settled(self, queues: list[QueueState]) -> list[QueueState]:
        """Return the remaining queues with all their messages: ready, unacknowledged and delayed.

        A queue reports the last two every 5 s only. Call this once no new messages can reach the queues: it waits until
        every report is newer than the call, and takes the larger count.
        """
        if not queues:
            return []
        time.sleep(_COUNTS_AGE_S)
        with self._translated():
            answers = asyncio.run(_ask_queues(self._access, queues))
        renewed = {(q.vhost, q.name): q for vhost in {q.vhost for q in queues} for q in self.queues(vhost)}
        found = [renewed[q.vhost, q.name] for q in queues if (q.vhost, q.name) in renewed]
        return [_with_ready(queue, answers) for queue in found]

    def _call(self, method: str, path: str, *, absent_is_fine: bool = False, **options: Any) -> httpx.Response:
        with self._translated():
            response = self._http.request(method, path, **options)
            if not (absent_is_fine and response.status_code == httpx.codes.NOT_FOUND):
                response.raise_for_status()
        return response

    @contextmanager
    def _translated(self) -> Iterator[None]:
        url, user = self._access.management_url, self._access.username
        try:
            yield
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
                remedy = (
                    "Check the stack's credentials for it; if its platform was recreated, run `up` on this stack first"
                )
                raise BrokerRefuses(f"the broker at {url} refuses the user {user!r}. {remedy}") from error
            reason = error.response.text[:200]
            message = (
                f"the broker at {url} answered {status} to {error.request.method} {error.request.url.path}: {reason}"
            )
            raise BrokerAnswersBadly(message) from error
        except (httpx.HTTPError, OSError, aio_pika.exceptions.AMQPError) as error:
            remedy = (
                "Start it and run again. If its container was removed, run `kryonix refresh` and `kryonix up` on the "
                "platform's stack first, then `kryonix tenant converge ID` for a tenant with a stack of its own"
            )
            raise BrokerUnreachable(f"the broker at {url} does not answer ({error}). {remedy}") from error


def _with_ready(queue: QueueState, answers: _Answers) -> QueueState:
    answer = answers.get((queue.vhost, queue.name))
    ready = (answer.message_count or 0) if answer else 0
    return QueueState(queue.vhost, queue.name, queue.arguments, max(queue.messages, ready))


def _unsure(queue: QueueState, answers: _Answers) -> bool:
    """Return True if new counts are needed: no answer, consumers with possible messages, or a possibly old count."""
    answer = answers.get((queue.vhost, queue.name))
    if answer is None:
        return True
    return not answer.message_count and bool(answer.consumer_count or queue.messages)


async def _ask_queues(access: BrokerAccess, queues: list[QueueState]) -> _Answers:
    """Return each queue's answer. Skip vhosts that accept no connection: suspended, or at their limit."""
    answers: _Answers = {}
    for vhost in sorted({queue.vhost for queue in queues}):
        try:
            connection = await _connect(access, vhost)
        except (aio_pika.exceptions.AMQPError, OSError, TimeoutError):
            continue
        async with connection:
            for queue in queues:
                if queue.vhost == vhost:
                    answer = await _ask(connection, queue.name)
                    if answer is not None:
                        answers[vhost, queue.name] = answer
    return answers


async def _connect(access: BrokerAccess, vhost: str) -> aio_pika.abc.AbstractConnection:
    return await aio_pika.connect(
        host=access.amqp_host,
        port=access.amqp_port,
        login=access.username,
        password=access.password,
        virtualhost=vhost,
        timeout=_TIMEOUT.connect,
    )


async def _ask(connection: aio_pika.abc.AbstractConnection, name: str) -> _Answer | None:
    """Return a queue's counts from a passive declaration, which closes its channel if the queue is gone.

    None if the counts are unreliable: the broker answers 0 for a queue that does not respond within 250 ms.
    """
    async with connection.channel() as channel:
        began = time.monotonic()
        try:
            queue = await channel.declare_queue(name, passive=True)
        except aio_pika.exceptions.ChannelNotFoundEntity:
            return _Answer(name, 0, 0)
    late = time.monotonic() - began > _RELIABLE_S
    return None if late and not queue.declaration_result.message_count else queue.declaration_result


def _quoted(name: str) -> str:
    return quote(name, safe="")
