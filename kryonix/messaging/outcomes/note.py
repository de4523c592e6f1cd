"""The two notes of a message: one by its sender, one by each attempt to handle it. Neither has a value of the data."""

from __future__ import annotations

from dataclasses import dataclass

from kryonix.routing.endings import Became
from kryonix.routing.modes import Decided


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What was known of a message when it was sent, and how it was routed."""

    __pydantic_config__ = {"allow_inf_nan": False}  # noqa: RUF012 - not a field

    tenant: str
    module: str
    action: str
    message_id: str
    at: float
    """Seconds since 1970."""
    bytes: int
    """Size of the body before compression."""
    device: str
    shape: str
    priority: int | None
    """As given by the sender, or the default."""
    expires_ms: float | None
    priority_used: int
    decision: Decided = "rules"
    propensity: float = 1.0
    """The share of messages like this that get such a decision."""
    compressed_bytes: int | None = None
    """Size on the wire, if compression was tried."""
    time: float | None = None
    """The handling time that the model expected: the natural logarithm of ms."""
    left: float | None = None
    """The same for the time left."""
    version: str | None = None
    """The model's, also in shadow mode; None if none was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumed:
    """One attempt to handle a message."""

    __pydantic_config__ = {"allow_inf_nan": False}  # noqa: RUF012

    tenant: str
    module: str
    action: str
    message_id: str
    at: float
    """Its end, in seconds since 1970."""
    waited_ms: float | None
    """From the broker's receive time (or the sender's, without one) to the start of the first attempt."""
    handled_ms: float | None
    attempts: int
    outcome: Became


Note = Published | Consumed
Key = tuple[str, str, str, str]


def key_of(note: Note) -> Key:
    """Return what both notes of a message have in common."""
    return note.tenant, note.module, note.action, note.message_id
