"""A message as an application sends it, as a handler gets it, and as it travels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Generic, Literal, TypedDict

from typing_extensions import TypeVar

Device = Literal["mobile", "web", "unknown"]
Data_co = TypeVar("Data_co", covariant=True, default=Any)


class Header:
    """The names of the headers that the SDK adds to messages that failed."""

    FAILURES: Final = "kryonix-failures"
    """The number of failed attempts, where retry queues count them instead of the broker."""
    REASON: Final = "kryonix-reason"
    """Why a message is a dead letter."""
    DIED: Final = "kryonix-died-at"
    """When the SDK made a message a dead letter. The broker notes this, and the attempts, for its own only."""
    ATTEMPTS: Final = "kryonix-attempts"
    FIRST_EXCHANGE: Final = "kryonix-exchange"
    """The exchange of the first publication. Redrive needs it together with FIRST_KEY."""
    FIRST_KEY: Final = "kryonix-routing-key"
    UNREADABLE: Final = "kryonix-unreadable"
    """The decoding error of a message with unreadable properties. It replaces all other headers."""
    REDRIVES: Final = "kryonix-redrives"
    """The number of redrives of a message."""
    REDRIVE_RUN: Final = "kryonix-redrive-run"
    """The last redrive run of a message: a run never moves a message twice."""
    REDRIVE_REASON: Final = "kryonix-redrive-reason"
    """Why the message was a dead letter."""


RECEIVED_HEADER: Final = "timestamp_in_ms"
"""When the broker received a message first (ms since 1970), with the platform's `receiveTime`."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

CONTROL_HEADERS: Final = frozenset(
    {"CC", "BCC", "x-delivery-count", "x-acquired-count", "x-opt-rabbitmq-delivery-time", "x-delayed-until"}
)
"""Headers with an effect in the broker, or counted by it. Copies leave them out. Case matters."""

_BROKER_HEADERS: Final = CONTROL_HEADERS | {"x-death", RECEIVED_HEADER}


def is_broker_header(name: str) -> bool:
    """Return True for a header that RabbitMQ acts upon, counts in, or writes when a message dies."""
    return name in _BROKER_HEADERS or name.startswith(("x-first-death-", "x-last-death-"))


def receive_time(headers: Mapping[str, Any]) -> datetime | None:
    """Return when the broker received a message first; None if it did not say so, or the value is not a time."""
    stamp = headers.get(RECEIVED_HEADER)
    if type(stamp) is not int:
        return None
    try:
        return _EPOCH + timedelta(milliseconds=stamp)
    except OverflowError:
        return None


class SendOptions(TypedDict, total=False):
    """Options of a message. See `Outgoing` for their meaning and defaults."""

    priority: int
    device: Device
    message_id: str | None
    expires: timedelta | float | None
    headers: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to send. `data` is JSON data, or bytes, sent unchanged."""

    module: str
    action: str
    data: Any
    priority: int = 5
    """0 to 10: 8-10 is `high`, 5-7 `medium`, 0-4 `low`."""
    device: Device = "unknown"
    message_id: str | None = None
    """Default: a new UUID. Messages with the same id are the same message."""
    expires: timedelta | float | None = None
    """Time to live (seconds, or a timedelta). Default: the module's retention."""
    headers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SendResult:
    """A message stored and confirmed by the broker."""

    message_id: str
    exchange: str
    routing_key: str
    priority: int
    mobile_optimized: bool
    bytes: int
    """Size of the body on the wire, after compression."""
    decision: str = ""
    """The reason for this route."""


@dataclass(frozen=True, slots=True)
class Route:
    """The path of a received message."""

    module: str
    action: str
    queue: str
    exchange: str
    """The exchange of the first publication, also after retries."""
    routing_key: str


@dataclass(frozen=True)  # with slots, Python 3.11 cannot call Message[Lead](…)
class Message(Generic[Data_co]):
    """A message as a handler gets it. `Message[Lead]` is one whose data is a Lead, with `consume(…, model=Lead)`."""

    data: Data_co
    message_id: str
    attempt: int
    """1 at the first delivery, one more after each failure."""
    headers: Mapping[str, Any]
    route: Route
    priority: int = 0
    sent_at: datetime | None = None
    application: str | None = None
    """The name of the sending application."""
    broadcast: bool = False
    """True for a message to every module with AI routing; its data is not this action's."""
    received_at: datetime | None = None
    """When the broker received it first, also after retries; None on a platform without `receiveTime`."""


def shown_id(message_id: str) -> str:
    """Return a message's id for the log. Other clients set none, or one with line breaks."""
    return (message_id if message_id.isprintable() else repr(message_id)) or "without id"


class RouteHeaders(dict[str, Any]):
    """The headers that all messages of a route have. Don't change them: they are encoded once."""

    __slots__ = ("encoded",)

    def __init__(self, headers: Mapping[str, Any]) -> None:
        super().__init__(headers)
        self.encoded = b""
        """Their binary form, once a message was written."""


@dataclass(slots=True)
class Envelope:
    """A message on the wire: encoded and addressed."""

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
    """Set by other applications, like the next two. The SDK only passes them on."""
    reply_to: str | None = None
    message_type: str | None = None
    received: bool = False
    """True for a message read from a broker: its properties are written back unchanged."""
