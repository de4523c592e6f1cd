"""Oversized and missing request bodies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from kryonix.signup import middleware
from kryonix.signup.middleware import MAX_BODY, BodyLimit


async def reads_all(scope: Any, receive: Any, send: Any) -> None:
    """An application that reads the body, and makes an answer of its own of whatever goes wrong meanwhile."""
    status, read = 200, 0
    try:
        more = True
        while more:
            message = await receive()
            read += len(message.get("body", b""))
            more = message.get("more_body", False)
    except Exception:  # noqa: BLE001  as frameworks do
        status = 400
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": str(read).encode()})


def ask(receive: Callable[[], Any], *headers: tuple[bytes, bytes]) -> tuple[int, bytes]:
    """The one answer to a request."""
    sent: list[dict[str, Any]] = []

    async def run() -> None:
        async def send(message: Any) -> None:
            sent.append(message)

        await BodyLimit(reads_all)({"type": "http", "headers": list(headers)}, receive, send)

    asyncio.run(run())
    start, body = sent
    return start["status"], body["body"]


def chunks(*sizes: int) -> Callable[[], Any]:
    left = list(sizes)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b" " * left.pop(0), "more_body": bool(left)}

    return receive


def test_a_body_within_the_limit_is_read_whole() -> None:
    assert ask(chunks(10, MAX_BODY - 10)) == (200, str(MAX_BODY).encode())


@pytest.mark.parametrize("length", [str(MAX_BODY + 1).encode(), b"-1", b"many"])
def test_an_invalid_or_excessive_length_is_refused_unread(length: bytes) -> None:
    status, body = ask(chunks(), (b"content-length", length))
    assert (status, json.loads(body)["type"]) == (413, "urn:kryonix:problem:content-too-large")


def test_a_body_that_outgrows_the_limit_is_always_refused() -> None:
    status, body = ask(chunks(MAX_BODY, 1, 1))
    assert (status, json.loads(body)["status"]) == (413, 413)


def test_a_body_that_never_arrives_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "MAX_SECONDS", 0.05)
    come = [{"type": "http.request", "body": b"{", "more_body": True}]

    async def receive() -> dict[str, Any]:
        if come:
            return come.pop()
        await asyncio.sleep(60)
        raise AssertionError("it was waited for")

    status, body = ask(receive)
    assert (status, json.loads(body)["type"]) == (408, "urn:kryonix:problem:request-timeout")
