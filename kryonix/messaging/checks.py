"""Checks of what a caller passes: times, counts, routes, ids and headers."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import UnionType
from typing import Any, Final, get_args

from pydantic import TypeAdapter

from kryonix.messaging.errors import ConfigurationError, UnknownRoute
from kryonix.messaging.message import Device, Outgoing, is_broker_header
from kryonix.topology.catalog import Catalog, Module
from kryonix.topology.errors import nearest

_MAX_SECONDS: Final = 100_000_000
"""Three years: a clock can still add it."""
_MAX_ID_BYTES: Final = 255
_MAX_EXPIRY_S: Final = 366 * 86_400.0
"""Far below the broker's own limit; it closes the channel above that."""
_SDK_HEADERS: Final = frozenset({"cliente-id", "modulo", "acao", "mobile-optimized", "traceparent", "tracestate"})
_MAX_HEADER_BYTES: Final = 65_536
"""Headers travel in one frame. Above 128 KiB the broker closes the connection, for everyone using it."""
_MAX_HEADER_DEPTH: Final = 10
_DEVICES: Final = get_args(Device)


def checked_seconds(name: str, value: Any, *, message_id: str | None = None) -> float:
    """Return a positive time in seconds. Raises ConfigurationError."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= _MAX_SECONDS:
        return float(value)
    problem = f"{name}: {value!r:.60} is not a valid time"
    raise ConfigurationError(problem, message_id=message_id, remedy=f"Pass seconds, above 0 and up to {_MAX_SECONDS:,}")


def checked_patience(name: str, value: Any) -> float:
    """Return a time in seconds; 0 means not to wait. Raises ConfigurationError."""
    return 0.0 if value == 0 and not isinstance(value, bool) else checked_seconds(name, value)


def checked_count(name: str, value: Any, most: int) -> int:
    """Return a whole number from 1 to `most`. Raises ConfigurationError."""
    if type(value) is int and 1 <= value <= most:
        return value
    raise ConfigurationError(f"{name}: {value!r:.60} is not a whole number", remedy=f"Pass one from 1 to {most:,}")


def check_type(name: str, value: Any, kind: type | UnionType) -> None:
    """Raise ConfigurationError for a value of another type, or for a class instead of an object."""
    if isinstance(value, type) or not isinstance(value, kind):
        given = "a class" if isinstance(value, type) else type(value).__name__
        problem = f"{name}: {given} is not {getattr(kind, '__name__', kind)}"
        raise ConfigurationError(problem, remedy="Pass an object of that type")


def check_handler(handler: Any) -> None:
    """Raise ConfigurationError unless the handler is an async function, or an async callable, of one message.

    A decorator that is not async itself may wrap an async function.
    """
    name = getattr(handler, "__qualname__", None) or f"{handler!r:.60}"
    how = "Write `async def handler(message)`"
    if isinstance(handler, type):
        remedy = f"Pass an object of it that has `async def __call__(self, message)`, or w{how[1:]}"
        raise ConfigurationError(f"{name} is a class, not an async function", remedy=remedy)
    called = handler
    while isinstance(called, functools.partial):
        called = called.func
    forms = (called, getattr(called, "__call__", None), inspect.unwrap(called))  # noqa: B004 - the method is looked at
    if not any(map(inspect.iscoroutinefunction, forms)):
        remedy = f"{how}; call blocking code in it with `await asyncio.to_thread(...)`"
        raise ConfigurationError(f"{name} is not an async function", remedy=remedy)
    try:
        # The decorator's own signature: it may pass more arguments on.
        signature = inspect.signature(handler, follow_wrapped=False)
    except (TypeError, ValueError):  # Python finds none, as Python 3.11.2 of a mock
        return
    try:
        signature.bind(object())
    except TypeError as error:
        problem = f"{name} does not take the message as its only argument ({error})"
        raise ConfigurationError(problem, remedy=how) from error


def checked_model(model: Any) -> TypeAdapter[Any] | None:
    """Return the adapter of a type, if there is one. Raises ConfigurationError for what Pydantic cannot validate."""
    if model is None:
        return None
    try:
        if isinstance(model, str) or inspect.isroutine(model):
            raise TypeError("it is not a type")  # Pydantic would take it for a forward reference, or its arguments
        adapter = model if isinstance(model, TypeAdapter) else TypeAdapter(model)
        adapter.validator.title  # noqa: B018 - raises for a type that is not fully defined
    except Exception as error:  # Pydantic's own, and those of a type's hooks
        name, why = getattr(model, "__name__", None) or f"{model!r:.60}", str(error).partition("\n")[0].rstrip(".")
        problem = f"model: {name} cannot be validated ({why})"
        remedy = "Pass a Pydantic model, a dataclass, a TypedDict or a TypeAdapter"
        raise ConfigurationError(problem, remedy=remedy) from error
    return adapter


def check_module(catalog: Catalog, module: Any, message_id: str | None = None) -> Module:
    """Return the catalog's module. Raises UnknownRoute with the nearest name."""
    if not isinstance(module, str) or module not in catalog.modules:
        raise _unknown(f"unknown module {module!r:.60}", module, catalog.modules, message_id)
    return catalog.modules[module]


def check_route(catalog: Catalog, module: Any, action: Any, message_id: str | None = None) -> None:
    """Raise UnknownRoute with the nearest name. Pass `message_id` only if the caller has chosen it."""
    actions = check_module(catalog, module, message_id).actions
    if action not in actions:
        raise _unknown(f"unknown action {action!r:.60} of the module {module}", action, actions, message_id)


def _unknown(problem: str, name: Any, known: Iterable[str], message_id: str | None) -> UnknownRoute:
    hint = nearest(name[:80] if isinstance(name, str) else "", known)
    return UnknownRoute(problem, message_id=message_id, remedy=hint[0].upper() + hint[1:])


def check_options(message: Outgoing, message_id: Any) -> None:
    """Raise ConfigurationError for an option that is invalid, or would break the connection."""
    if not isinstance(message_id, str) or not _is_id(message_id):
        problem = f"message_id: {message_id!r:.60} is not printable text of 1 to {_MAX_ID_BYTES} bytes"
        raise ConfigurationError(problem, remedy="Leave it out to get a new id")
    if type(message.priority) is not int or not 0 <= message.priority <= 10:
        problem = f"priority: {message.priority!r:.60} is not a whole number from 0 to 10"
        raise ConfigurationError(problem, message_id=message_id, remedy="8-10 is high, 5-7 medium, 0-4 low")
    if message.device not in _DEVICES:
        problem = f"device: {message.device!r:.60} is not one of {', '.join(_DEVICES)}"
        raise ConfigurationError(problem, message_id=message_id, remedy="Pass one of them, or leave it out")
    if message.expires is not None:
        milliseconds(message.expires, message_id)
    _check_headers(message.headers, message_id)


def _is_id(text: str) -> bool:
    return text.isprintable() and 1 <= len(text.encode()) <= _MAX_ID_BYTES


def milliseconds(expires: Any, message_id: str) -> int:
    """Return a time to live in ms. Raises ConfigurationError."""
    seconds = expires.total_seconds() if hasattr(expires, "total_seconds") else expires
    seconds = checked_seconds("expires", seconds, message_id=message_id)
    if 0.001 <= seconds <= _MAX_EXPIRY_S:
        return math.floor(seconds * 1000 + 0.5)  # cut off, 1.001 s would be 1,000 ms
    problem = f"expires: {expires!r:.60} is not between a millisecond and a year"
    raise ConfigurationError(problem, message_id=message_id, remedy="Leave it out to use the module's retention")


def _check_headers(headers: Any, message_id: str) -> None:
    if not isinstance(headers, Mapping):
        problem = f"headers: {type(headers).__name__} is not a mapping"
        raise ConfigurationError(problem, message_id=message_id, remedy="Pass a dict")
    size = 0
    for name, value in headers.items():
        if not isinstance(name, str) or not _is_id(name):
            problem = f"the header name {name!r:.60} is not printable text of 1 to {_MAX_ID_BYTES} bytes"
            raise ConfigurationError(problem, message_id=message_id, remedy="Choose another name")
        if is_broker_header(name) or name in _SDK_HEADERS or name.startswith("kryonix-"):
            owner = "the broker" if is_broker_header(name) else "the SDK"
            problem = f"the header {name!r} is reserved by {owner}"
            raise ConfigurationError(problem, message_id=message_id, remedy="Choose another name")
        try:
            size += len(name.encode()) + _size(value, _MAX_HEADER_DEPTH)
        except ValueError as error:
            problem = f"the header {name!r} cannot be sent: {error}"
            remedy = "Use text, numbers, booleans, None, datetimes, lists and dicts; send anything else as data"
            raise ConfigurationError(problem, message_id=message_id, remedy=remedy) from error
    if size > _MAX_HEADER_BYTES:
        problem = f"the headers are {size:,} bytes, more than {_MAX_HEADER_BYTES:,}"
        raise ConfigurationError(problem, message_id=message_id, remedy="Send them as data")


def _size(value: Any, depth: int) -> int:
    """Return the approximate size of a header's value on the wire, in bytes. Raises ValueError."""
    if depth == 0:
        raise ValueError(f"it is nested deeper than {_MAX_HEADER_DEPTH}")
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
    raise ValueError(f"{type(value).__name__} {value!r:.60} is not a header value")
