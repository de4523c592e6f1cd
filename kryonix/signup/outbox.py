"""Events to be told, written in the transaction of what they tell: what has happened is told, at least once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from kryonix.registry.rows import Connection
from kryonix.signup.sql import QUERIES

__all__ = ["OutboxEvent", "mark_published", "put_event", "take_events"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxEvent:
    """One event. Its id is the same however often it is published."""

    id: UUID
    event: str
    tenant: str
    payload: Mapping[str, Any]
    created_at: datetime


def put_event(connection: Connection, event: str, tenant: str, payload: Mapping[str, Any]) -> None:
    """Have an event told once this transaction is committed."""
    connection.execute(QUERIES["insert_event"], {"event": event, "tenant": tenant, "payload": Jsonb(dict(payload))})


def take_events(connection: Connection, limit: int = 100) -> list[OutboxEvent]:
    """The oldest events that are to be told, for this transaction alone."""
    return [OutboxEvent(**row) for row in connection.execute(QUERIES["take_events"], {"limit": limit})]


def mark_published(connection: Connection, event: OutboxEvent) -> None:
    """The broker has it."""
    connection.execute(QUERIES["mark_published"], {"id": event.id})
