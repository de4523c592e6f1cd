"""What happens to every request: a bound on its body, an audit row, figures, a line in the log, safe headers."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import MutableMapping
from typing import Any, Final
from uuid import UUID, uuid4

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kryonix.registry.errors import RegistryError
from kryonix.signup.database import Database
from kryonix.signup.metrics import Metrics
from kryonix.signup.problems import MEDIA_TYPE, http_problem
from kryonix.signup.sql import QUERIES

__all__ = ["BodyLimit", "Recorded"]

log = logging.getLogger(__name__)

MAX_BODY: Final = 64 * 1024
"""Bytes. The largest request that means anything has a few kilobytes."""

_AUDITED: Final = "/v1/"
_SHOWN_PATH: Final = 300
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (
        b"content-security-policy",
        b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    ),
)


class _TooLarge(Exception):
    """The body is larger than is read."""


class BodyLimit:
    """Answers 413 to a body above the limit, whether it was announced or is only sent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > MAX_BODY:
            await _refuse(send)
            return
        read, answered = 0, False

        async def limited() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > MAX_BODY:
                raise _TooLarge
            return message

        async def watched(message: Message) -> None:
            # Who reads the body may make another answer of the exception: this one comes first.
            nonlocal answered
            if read > MAX_BODY:
                if not answered:
                    answered = True
                    await _refuse(send)
                return
            answered = True
            await send(message)

        try:
            await self._app(scope, limited, watched)
        except _TooLarge:
            if not answered:
                await _refuse(send)


async def _refuse(send: Send) -> None:
    problem = http_problem(413, f"the body is larger than {MAX_BODY:,} bytes, which is all that is read. Send less")
    body = json.dumps(problem.as_json()).encode()
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Recorded:
    """Gives each request an id, and records what became of it. Routes add who asked and about what, in `state`."""

    def __init__(self, app: ASGIApp, database: Database, metrics: Metrics) -> None:
        self._app = app
        self._database = database
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        id, begun, status = uuid4(), time.monotonic(), 500
        state = scope.setdefault("state", {})
        state["request_id"] = str(id)

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_HEADERS, (b"x-request-id", str(id).encode())]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            await self._record(scope, id, status, time.monotonic() - begun)

    async def _record(self, scope: Scope, id: UUID, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        self._metrics.saw(scope["method"], route, status, seconds)
        log.info("%s %s %d %.0f ms %s", scope["method"], route, status, seconds * 1000, id)
        if not scope["path"].startswith(_AUDITED):
            return
        try:
            await run_in_threadpool(self._audit, scope, id, status)
        except RegistryError as error:
            log.error("the audit row of the request %s is missing: %s", id, error)

    def _audit(self, scope: Scope, id: UUID, status: int) -> None:
        state: MutableMapping[str, Any] = scope["state"]
        values = {
            "request_id": id,
            "key_id": state.get("key_id"),
            "peer": (scope.get("client") or ("unknown", 0))[0],
            "method": scope["method"],
            "path": _printable(scope["path"])[:_SHOWN_PATH],
            "status": status,
            "tenant": state.get("tenant"),
            "operation": state.get("operation"),
        }
        with self._database.transaction() as connection:
            connection.execute(QUERIES["insert_audit"], values)


def _printable(text: str) -> str:
    """A path as a row can hold it, which no character of code 0 can be in."""
    return text.encode("unicode_escape").decode()
