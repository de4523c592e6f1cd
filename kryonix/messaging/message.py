"""A message as an application sends it, as a handler gets it, and as it travels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

__all__ = ["Device", "Envelope", "Message", "Outgoing", "Route", "SendResult"]

Device = Literal["mobile", "web", "unknown"]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to be sent. `data` is what JSON can hold, or bytes, which travel as they are."""

    module: str
    action: str
    data: Any
    priority: int = 5
    """0 to 10; 8 and more is `high`, 5 to 7 `medium`, less `low`."""
    device: Device = "unknown"
    message_id: str | None = None
    """Chosen by the SDK where None. The same id again means: the same message."""
    expires: timedelta | float | None = None
    """How long the message is worth delivering (seconds, or a timedelta). None: as long as the module keeps it."""
    headers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SendResult:
    """A message that the broker has stored and confirmed."""

    message_id: str
    exchange: str
    routing_key: str
    priority: int
    mobile_optimized: bool
    bytes: int
    """What travelled, after compression."""
    decision: str = ""
    """Why it was routed so."""


@dataclass(frozen=True, slots=True)
class Route:
    """The way a message has taken."""

    module: str
    action: str
    queue: str
    exchange: str
    """Where it was published first, also after retries."""
    routing_key: str


@dataclass(frozen=True, slots=True)
class Message:
    """A message as a handler gets it."""

    data: Any
    message_id: str
    attempt: int
    """1 at the first delivery, one more after each failure."""
    headers: Mapping[str, Any]
    route: Route
    priority: int = 0
    sent_at: datetime | None = None
    application: str | None = None
    """Who sent it."""


@dataclass(slots=True)
class Envelope:
    """A message as it travels: encoded, with an address."""

    exchange: str
    routing_key: str
    body: bytes
    message_id: str
    headers: dict[str, Any] = field(default_factory=dict)
    priority: int = 0
    content_type: str | None = "application/json"
    content_encoding: str | None = None
    expiration: int | None = None
    """ms"""
    timestamp: datetime | None = None
    app_id: str | None = None
    correlation_id: str | None = None
    """This and the next two are other applications' own: the SDK passes them on, where it moves a message."""
    reply_to: str | None = None
    message_type: str | None = None
    received: bool = False
    """Whether it was read from a broker, so that what is written again must be what was read."""
