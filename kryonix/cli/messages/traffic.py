"""`kryonix send` and `kryonix consume`: one message in by hand, and messages out to standard output."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from kryonix.errors import InvalidChoice
from kryonix.messaging import Message, MessagingClient, Outgoing, SendResult
from kryonix.messaging.configuration import Address
from kryonix.topology.catalog import Catalog

__all__ = ["consume", "parse_data", "parse_headers", "parse_route", "send"]

_APPLICATION: Final = "kryonix command"


def parse_route(text: str) -> tuple[str, str]:
    """`module.action` taken apart; whether there is such a thing is the SDK's to say."""
    module, dot, action = text.partition(".")
    if not (module and dot and action):
        raise InvalidChoice(f"{text!r} is no MODULE.ACTION. Write it as crm.leads.create")
    return module, action


def parse_data(text: str | None, file: Path | None) -> Any:
    """The data to send: JSON from the argument, from a file as JSON or, where it is none, as bytes, or from stdin."""
    if text is not None and file is not None:
        raise InvalidChoice("data and --file are both given. Give one of them")
    if file is not None:
        content = _bytes_of(file)
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            return content
    try:
        return json.loads(sys.stdin.buffer.read() if text is None or text == "-" else text.encode())
    except (ValueError, RecursionError) as error:
        remedy = "Quote text as '\"text\"', or send a file's bytes with --file"
        raise InvalidChoice(f"the data is not JSON: {error}. {remedy}") from error


def _bytes_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidChoice(f"{str(file)!r} can't be read: {error.strerror}. Name a file that can") from error


def parse_headers(texts: list[str]) -> dict[str, str]:
    """`name=value` taken apart."""
    split = [text.partition("=") for text in texts]
    if wrong := [text for text, (name, equals, _) in zip(texts, split, strict=True) if not (name and equals)]:
        raise InvalidChoice(f"--header {wrong[0]!r} is no NAME=VALUE. Write it as --header source=import")
    return {name: value for name, _, value in split}


async def send(
    address: Address, catalog: Catalog, message: Outgoing, priority: int | None, timeout: float
) -> SendResult:
    """Send one message; without a priority it has its module's own."""
    async with await _client(address, catalog, timeout) as client:
        own = client.module(message.module).priority
        chosen = replace(message, priority=own if priority is None else priority)
        return await client.send_message(chosen, timeout=timeout)


async def consume(
    address: Address, catalog: Catalog, module: str, action: str, limit: int | None, wait: float | None
) -> int:
    """Write messages to standard output as JSON, one a line, until `limit` or until none has come for `wait` seconds.

    A message is answered once its line is written. Returns how many were.
    """
    taken = 0
    async with await _client(address, catalog, 10.0) as client:
        prefetch = 100 if limit is None else max(1, min(limit, 100))
        async with client.module(module).stream(action, prefetch=prefetch) as stream:
            while limit is None or taken < limit:
                try:
                    async with asyncio.timeout(wait):
                        item = await anext(stream)
                except TimeoutError:
                    break
                async with item as message:
                    _write(_line(message))
                taken += 1
    return taken


async def _client(address: Address, catalog: Catalog, timeout: float) -> MessagingClient:
    return await MessagingClient.connect(address.uri(), application=_APPLICATION, timeout=timeout, catalog=catalog)


def _write(line: Mapping[str, Any]) -> None:
    text = json.dumps(line, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # half a surrogate pair in the data, or a terminal that speaks something else
        text = json.dumps(line)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _line(message: Message) -> dict[str, Any]:
    data: Mapping[str, Any] = {"data": message.data}
    if isinstance(message.data, bytes):
        data = {"data_base64": base64.b64encode(message.data).decode()}
    return {
        "message_id": message.message_id,
        **data,
        "attempt": message.attempt,
        "priority": message.priority,
        "sent_at": None if message.sent_at is None else message.sent_at.isoformat(),
        "application": message.application,
        "headers": json.loads(json.dumps(dict(message.headers), default=str)),
        "route": asdict(message.route),
    }
