"""The options of connecting, sending and consuming, as types, and the numbers in them that make sense."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, TypedDict

from kryonix.messaging.audit import AuditSink
from kryonix.messaging.encoding import Compression
from kryonix.messaging.errors import ConfigurationError
from kryonix.messaging.idempotency import IdempotencyStore
from kryonix.messaging.message import Device
from kryonix.messaging.routing import Router
from kryonix.topology.catalog import Catalog

__all__ = ["ClientOptions", "ConsumeOptions", "SendOptions", "checked_count", "checked_seconds"]


class ClientOptions(TypedDict, total=False):
    """What a client may be given beside its address and its name. Each is explained where MessagingClient is made."""

    catalog: Catalog | None
    prefetch: int
    router: Router | None
    router_timeout: float
    compression: Compression | None
    audit: AuditSink | None
    idempotency: IdempotencyStore | None
    max_bytes: int


class SendOptions(TypedDict, total=False):
    """The options of MessagingClient.send."""

    priority: int
    device: Device
    message_id: str | None
    expires: timedelta | float | None
    headers: Mapping[str, Any] | None
    timeout: float


class ConsumeOptions(TypedDict, total=False):
    """The options of MessagingClient.consume."""

    concurrency: int
    prefetch: int | None
    handler_timeout: float | None
    timeout: float


def checked_seconds(name: str, value: Any, *, message_id: str | None = None) -> float:
    """A time that can be waited for. Raises ConfigurationError."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf:
        return float(value)
    raise ConfigurationError(
        f"{name} {value!r} is no time to wait", message_id=message_id, remedy="Pass seconds above 0"
    )


def checked_count(name: str, value: Any, most: int) -> int:
    """A whole number from 1 to `most`. Raises ConfigurationError."""
    if type(value) is int and 1 <= value <= most:
        return value
    raise ConfigurationError(f"{name} {value!r} is not a whole number from 1 to {most:,}", remedy="Pass one in between")
