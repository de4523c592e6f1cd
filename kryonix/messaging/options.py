"""The options of connecting, sending and consuming, as types."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, TypedDict

from kryonix.messaging.audit import AuditSink
from kryonix.messaging.encoding import Compression
from kryonix.messaging.idempotency import IdempotencyStore
from kryonix.messaging.message import Device
from kryonix.messaging.routing import Router
from kryonix.topology.catalog import Catalog

__all__ = ["ClientOptions", "ConsumeOptions", "SendOptions"]


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
