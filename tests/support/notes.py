"""Notes of one message, as its sender and its consumer take them."""

from __future__ import annotations

from typing import Any, Final

from kryonix.messaging.outcomes import Consumed, Published

__all__ = ["AT", "consumed", "published"]

AT: Final = 1_800_000_000.0
"""When the message was sent, in seconds since 1970; it was handled a second later."""


def published(message_id: str = "m", **changed: Any) -> Published:
    fields: dict[str, Any] = {
        "tenant": "acme",
        "module": "crm",
        "action": "leads.create",
        "message_id": message_id,
        "at": AT,
        "bytes": 10,
        "device": "web",
        "shape": "0" * 16,
        "priority": 5,
        "expires_ms": None,
        "priority_used": 5,
    }
    return Published(**fields | changed)


def consumed(message_id: str = "m", **changed: Any) -> Consumed:
    fields: dict[str, Any] = {
        "tenant": "acme",
        "module": "crm",
        "action": "leads.create",
        "message_id": message_id,
        "at": AT + 1,
        "waited_ms": 100.0,
        "handled_ms": 20.0,
        "attempts": 1,
        "outcome": "done",
    }
    return Consumed(**fields | changed)
