"""Middleware of every request: body limits, audit, metrics, log, and security headers."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, Final
from uuid import UUID, uuid4

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kryonix.registry.errors import RegistryError
from kryonix.signup.auth import KEYED, RateLimit, address_of
from kryonix.signup.database import QUERIES, Database
from kryonix.signup.errors import TooManyRequests
from kryonix.signup.monitoring import Metrics, method_label
from kryonix.signup.problems import MEDIA_TYPE, Problem, http_problem, problem_of

log = logging.getLogger(__name__)

MAX_BODY: Final = 64 * 1024
"""Bytes. The largest useful request has a few kilobytes."""

MAX_SECONDS: Final = 20
"""Time limit for receiving the whole body."""

_TOO_LARGE: Final = http_problem(413, f"the body is larger than {MAX_BODY:,} bytes, the maximum. Send a smaller one")
_TOO_SLOW: Final = http_problem(408, f"the body did not arrive within {MAX_SECONDS} s. Send it without pauses")
_TWO_LENGTHS: Final = http_problem(400, "the request has both Content-Length and Transfer-Encoding. Send one of them")
_SHOWN_PATH: Final = 300
_SHOWN_METHOD: Final = 16
_UNIDENTIFIED_ROWS: Final = (1, 60)
"""Audit rows per second, and at once, for all requests without a valid key together."""
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"),
)


class BodyLimit:
    """Answer 413 to a body over the limit, 408 to one that does not arrive, and 400 to one with two lengths."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if b"content-length" in headers and b"transfer-encoding" in headers:
            # A proxy that reads by the length would take the rest of the body for another caller's request.
            await _refuse(send, _TWO_LENGTHS, (b"connection", b"close"))
            return
        announced = headers.get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > MAX_BODY:
            await _refuse(send, _TOO_LARGE)
            return
        read: deque[Message] = deque()
        size = 0
        try:
            async with asyncio.timeout(MAX_SECONDS):
                while not read or read[-1].get("more_body", False):
                    read.append(await receive())
                    size += len(read[-1].get("body", b""))
                    if size > MAX_BODY:
                        await _refuse(send, _TOO_LARGE)
                        return
        except TimeoutError:
            await _refuse(send, _TOO_SLOW)
            return

        async def replay() -> Message:
            return read.popleft() if read else await receive()  # after the body, the only message is the disconnect

        await self._app(scope, replay, send)


async def _refuse(send: Send, problem: Problem, *more: tuple[bytes, bytes]) -> None:
    body = json.dumps(problem.as_json()).encode()
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class RequestLog:
    """Give each request an id, and record its result. Routes add the key, tenant and operation to `state`.

    Callers without a key can't fill the log: a request over the rate limit is only counted, and a few of the others
    per second are audited.
    """

    def __init__(self, app: ASGIApp, database: Database, metrics: Metrics) -> None:
        self._app = app
        self._database = database
        self._metrics = metrics
        self._unidentified = RateLimit(*_UNIDENTIFIED_ROWS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        id, begun, status, answering = uuid4(), time.monotonic(), 500, False
        state = scope.setdefault("state", {})
        state["request_id"] = str(id)

        async def watched(message: Message) -> None:
            nonlocal status, answering
            if message["type"] == "http.response.start":
                status, answering = message["status"], True
                message["headers"] = [*message.get("headers", ()), *_HEADERS, (b"x-request-id", str(id).encode())]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            log.error("request %s ended with a defect", id, exc_info=error)
            if answering:
                raise  # the server closes the connection, so that the caller sees a cut answer
            await _refuse(watched, problem_of(error).model_copy(update={"request_id": str(id)}))
        finally:
            await self._record(scope, id, status, time.monotonic() - begun)

    async def _record(self, scope: Scope, id: UUID, status: int, seconds: float) -> None:
        method, route = method_label(scope["method"]), getattr(scope.get("route"), "path", "none")
        self._metrics.saw(method, route, status, seconds)
        state = scope["state"]
        if state.get("turned_away"):
            return
        log.info("%s %s %d %.0f ms %s", method, route, status, seconds * 1000, id)
        if not scope["path"].startswith(KEYED):
            return
        with suppress(TooManyRequests):
            if state.get("key_id") is None:
                self._unidentified.count("all")
            try:
                await run_in_threadpool(self._audit, scope, id, status)
            except RegistryError as error:
                log.error("the audit row of the request %s is missing: %s", id, error)

    def _audit(self, scope: Scope, id: UUID, status: int) -> None:
        state: MutableMapping[str, Any] = scope["state"]
        values = {
            "request_id": id,
            "key_id": state.get("key_id"),
            "peer": address_of(scope),
            "method": _printable(scope["method"])[:_SHOWN_METHOD],
            "path": _printable(scope["path"])[:_SHOWN_PATH],
            "status": status,
            "tenant": state.get("tenant"),
            "operation": state.get("operation"),
        }
        with self._database.transaction() as connection:
            connection.execute(QUERIES["insert_audit"], values)


def _printable(text: str) -> str:
    """Escape characters that a row can't store, such as code 0."""
    return text.encode("unicode_escape").decode()
