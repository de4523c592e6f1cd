"""What may be sent: a route of the catalog, options that make sense, and headers that a broker takes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, get_args

from kryonix.messaging.checks import checked_seconds, shown
from kryonix.messaging.consuming.work import NOT_TAKEN_OVER
from kryonix.messaging.errors import ConfigurationError, UnknownRoute
from kryonix.messaging.message import Device, Outgoing
from kryonix.topology.catalog import Catalog, Module
from kryonix.topology.errors import nearest

__all__ = ["check_module", "check_options", "check_route", "milliseconds"]

_DEVICES: Final = get_args(Device)
_LONGEST_ID: Final = 255
_LONGEST_EXPIRY: Final = 366 * 86_400.0
"""Seconds; far below what a broker takes, which closes the channel on more."""

_OURS: Final = frozenset({"cliente-id", "modulo", "acao", "mobile-optimized", "traceparent", "tracestate"})
_OUR_PREFIX: Final = "kryonix-"
_BROKERS: Final = NOT_TAKEN_OVER | {"x-death"}
"""Headers that RabbitMQ acts upon, or counts in."""
_BROKERS_PREFIXES: Final = ("x-first-death-", "x-last-death-")
_LARGEST_HEADERS: Final = 65_536
"""Bytes. Headers travel in one frame: with more than 128 KiB the broker closes the connection, for all who use it."""
_DEEPEST_HEADER: Final = 10


def check_module(catalog: Catalog, module: Any, message_id: str | None = None) -> Module:
    """The catalog's module. Raises UnknownRoute with the nearest name."""
    if not isinstance(module, str) or module not in catalog.modules:
        raise _unknown(f"unknown module {shown(module)}", module, catalog.modules, message_id)
    return catalog.modules[module]


def check_route(catalog: Catalog, module: Any, action: Any, message_id: str | None = None) -> None:
    """Raises UnknownRoute with the nearest name, about the message whose id the caller has chosen, if any."""
    actions = check_module(catalog, module, message_id).actions
    if action not in actions:
        raise _unknown(f"unknown action {shown(action)} of the module {module}", action, actions, message_id)


def _unknown(problem: str, name: Any, known: Iterable[str], message_id: str | None) -> UnknownRoute:
    hint = nearest(name[:80] if isinstance(name, str) else "", known)
    return UnknownRoute(problem, message_id=message_id, remedy=hint[0].upper() + hint[1:])


def check_options(message: Outgoing, message_id: Any) -> None:
    """Raises ConfigurationError for what no broker should see."""
    if not isinstance(message_id, str) or not _is_id(message_id):
        problem = f"the message id {shown(message_id)} is not printable text of 1 to {_LONGEST_ID} bytes"
        raise ConfigurationError(problem, remedy="Leave it out to have one chosen")
    if type(message.priority) is not int or not 0 <= message.priority <= 10:
        problem = f"priority {shown(message.priority)} is not a whole number from 0 to 10"
        raise ConfigurationError(problem, message_id=message_id, remedy="8 and more is high, 5 to 7 medium, less low")
    if message.device not in _DEVICES:
        problem = f"device {shown(message.device)} is none of {', '.join(_DEVICES)}"
        raise ConfigurationError(problem, message_id=message_id, remedy="Pass one of them, or leave it out")
    if message.expires is not None:
        milliseconds(message.expires, message_id)
    _check_headers(message.headers, message_id)


def _is_id(text: str) -> bool:
    return text.isprintable() and 1 <= len(text.encode()) <= _LONGEST_ID


def milliseconds(expires: Any, message_id: str) -> int:
    """A time to live as the broker takes it. Raises ConfigurationError."""
    seconds = expires.total_seconds() if hasattr(expires, "total_seconds") else expires
    seconds = checked_seconds("expires", seconds, message_id=message_id)
    if 0.001 <= seconds <= _LONGEST_EXPIRY:
        return int(seconds * 1000)
    problem = f"expires {shown(expires)} is not between a millisecond and a year"
    raise ConfigurationError(problem, message_id=message_id, remedy="Leave it out for as long as the module keeps it")


def _check_headers(headers: Any, message_id: str) -> None:
    if not isinstance(headers, Mapping):
        problem = f"headers are {type(headers).__name__}, not a mapping of names to values"
        raise ConfigurationError(problem, message_id=message_id, remedy="Pass a dict")
    size = 0
    for name, value in headers.items():
        if not isinstance(name, str) or not _is_id(name):
            problem = f"the header {shown(name)} is not printable text of 1 to {_LONGEST_ID} bytes"
            raise ConfigurationError(problem, message_id=message_id, remedy="Choose another name")
        brokers = name in _BROKERS or name.startswith(_BROKERS_PREFIXES)
        if brokers or name in _OURS or name.startswith(_OUR_PREFIX):
            problem = f"the header {name!r} is {'the broker' if brokers else 'the SDK'}'s"
            raise ConfigurationError(problem, message_id=message_id, remedy="Choose another name")
        try:
            size += len(name.encode()) + _size(value, _DEEPEST_HEADER)
        except ValueError as error:
            remedy = (
                "Send text, numbers, booleans, None, datetimes, lists and dicts of them; the rest belongs in the data"
            )
            raise ConfigurationError(
                f"the header {name!r} can't travel: {error}", message_id=message_id, remedy=remedy
            ) from error
    if size > _LARGEST_HEADERS:
        problem = f"the headers are {size:,} bytes, more than {_LARGEST_HEADERS:,}"
        raise ConfigurationError(problem, message_id=message_id, remedy="Send it as data")


def _size(value: Any, depth: int) -> int:
    """About how many bytes a header's value has on the wire. Raises ValueError where it can't be there."""
    if depth == 0:
        raise ValueError(f"it is nested deeper than {_DEEPEST_HEADER}")
    match value:
        case None | bool():
            return 9
        case datetime() if 0 <= (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp() < 2**32:
            return 9
        case int() if -(2**63) <= value < 2**63:
            return 9
        case float() if math.isfinite(value):
            return 9
        case str():
            return 5 + len(value.encode())
        case list():
            return 5 + sum(_size(each, depth - 1) for each in value)
        case dict() if all(isinstance(name, str) and _is_id(name) for name in value):
            return 5 + sum(_size(name, depth - 1) + _size(each, depth - 1) for name, each in value.items())
    raise ValueError(f"{type(value).__name__} {shown(value)} has no form there")
