"""The broker's management API, for the questions and settings that the provider plugin has no resource for."""

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

_RELIABLE_S: Final = 0.2  # a zero that took longer may be the broker's own, for a queue that did not answer
_COUNTS_AGE_S: Final = 8  # a quorum queue reports its counts every 5 s, and later on a busy broker
_LIVE_TOTALS: Final = {"disable_stats": "true", "enable_queue_totals": "true"}


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerAccess:
    """Where a broker is and who asks. Hosts and ports are those an administrator's machine reaches."""

    management_url: str
    username: str
    password: str = field(repr=False)
    amqp_host: str
    amqp_port: int


@dataclass(frozen=True, slots=True)
class VhostState:
    """A vhost that exists."""

    name: str
    description: str


@dataclass(frozen=True, slots=True)
class QueueState:
    """A queue that exists, and how many messages it holds, ready and unacknowledged."""

    vhost: str
    name: str
    arguments: Mapping[str, Any]
    messages: int


@dataclass(frozen=True, slots=True)
class BindingState:
    """A binding of a queue, as the API takes it back."""

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
    """How full a queue is, as of up to 5 s ago, and the policy that applies to it now."""

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
        """All queues, or one vhost's; none where there is no such vhost."""
        path = "queues" if vhost is None else f"queues/{_quoted(vhost)}"
        response = self._call("GET", path, params=_LIVE_TOTALS, absent_is_fine=True)
        found = [] if response.status_code == httpx.codes.NOT_FOUND else response.json()
        return [QueueState(q["vhost"], q["name"], q["arguments"], q.get("messages", 0)) for q in found]

    def fillings(self, vhost: str | None = None) -> list[Filling]:
        """Return how full all queues are, or one vhost's; none where there is no such vhost."""
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
        """Make a binding; nothing where its exchange or its queue is gone."""
        body = {"routing_key": binding.routing_key, "arguments": dict(binding.arguments)}
        self._call("POST", binding.path, json=body, absent_is_fine=True)

    def unbind(self, binding: BindingState) -> None:
        self._call("DELETE", f"{binding.path}/{_quoted(binding.properties_key)}", absent_is_fine=True)

    def answers(self) -> bool:
        """Return True if a broker answers here, whatever it says."""
        try:
            self._call("GET", "whoami")
        except (BrokerAnswersBadly, BrokerRefuses):
            return True
        except BrokerUnreachable:
            return False
        return True

    def note(self, name: str) -> Any:
        """Return the value of a global parameter, or None where there is none."""
        response = self._call("GET", f"global-parameters/{_quoted(name)}", absent_is_fine=True)
        return None if response.status_code == httpx.codes.NOT_FOUND else response.json()["value"]

    def notes(self, prefix: str) -> dict[str, Any]:
        """Return the global parameters whose names begin so."""
        found = self._call("GET", "global-parameters").json()
        return {entry["name"]: entry["value"] for entry in found if entry["name"].startswith(prefix)}

    def put_note(self, name: str, value: Any) -> None:
        self._call("PUT", f"global-parameters/{_quoted(name)}", json={"name": name, "value": value})

    def drop_note(self, name: str) -> None:
        self._call("DELETE", f"global-parameters/{_quoted(name)}", absent_is_fine=True)

    def users(self, vhost: str) -> list[str]:
        """Return the names of the users that have permissions in a vhost, without the one that asks."""
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
        """The limits of a user; empty where it has none or does not exist."""
        response = self._call("GET", f"user-limits/{_quoted(user)}", absent_is_fine=True)
        found = [] if response.status_code == httpx.codes.NOT_FOUND else response.json()
        return {limit: value for entry in found for limit, value in entry["value"].items()}

    def protected(self, vhost: str) -> bool | None:
        """Whether a vhost is protected from deletion; None where it does not exist."""
        response = self._call("GET", f"vhosts/{_quoted(vhost)}", absent_is_fine=True)
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        return bool(response.json()["protected_from_deletion"])

    def protect(self, vhost: str, *, protected: bool) -> None:
        """Turn a vhost's protection from deletion on or off. Off for a vhost that is gone is no error."""
        path = f"vhosts/{_quoted(vhost)}/deletion/protection"
        self._call("POST" if protected else "DELETE", path, absent_is_fine=not protected)

    def exact(self, queues: list[QueueState]) -> list[QueueState]:
        """The same queues with the count of messages as it is now: the API's own counts are up to 5 s old.

        A queue says itself over AMQP how many are ready. What it can't say, the messages that its consumers have not
        acknowledged, or anything at all in a vhost that lets nobody in, the API is asked once its counts are new.
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
        """Return the queues that are still there with all that they hold: ready, unacknowledged and delayed messages.

        What a queue holds beside ready messages it reports every 5 s only. Call this once nothing new can reach the
        queues: it waits until every report is newer than the call, and takes the larger count.
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
                    "Check the stack's credentials for it; if its platform was made anew, run `up` on this stack first"
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
    """Whether only new counts can tell: no answer, consumers that may hold messages, or a count that may be old."""
    answer = answers.get((queue.vhost, queue.name))
    if answer is None:
        return True
    return not answer.message_count and bool(answer.consumer_count or queue.messages)


async def _ask_queues(access: BrokerAccess, queues: list[QueueState]) -> _Answers:
    """What each queue says of itself. Nothing for those of a vhost that lets nobody in: suspended, or full."""
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
    """A passive declaration answers with the queue's counts; it closes its channel where the queue is gone.

    None where that can't be relied on: the broker itself says 0 for a queue that has not told it within 250 ms.
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
