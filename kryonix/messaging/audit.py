"""A record of every send and its outcome, written in the background. It never delays a send."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

from kryonix.messaging.postgres import PostgresTable


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One send and its outcome. It never contains the data."""

    at: datetime
    tenant: str
    application: str
    message_id: str
    module: str
    action: str
    exchange: str
    routing_key: str
    priority: int
    bytes: int
    outcome: str
    """`confirmed`, or the name of the error."""
    milliseconds: float


@runtime_checkable
class AuditSink(Protocol):
    """A destination for audit records. If it is slow or fails, sends continue, and lost records are counted."""

    async def write(self, records: Sequence[AuditRecord]) -> None: ...

    async def close(self) -> None: ...


class JsonLinesAudit:
    """Append records to a file, as one JSON object per line."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    async def write(self, records: Sequence[AuditRecord]) -> None:
        await asyncio.to_thread(self._append, records)

    def _append(self, records: Sequence[AuditRecord]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            for record in records:
                at = record.at.astimezone(UTC).isoformat(timespec="milliseconds")
                file.write(f"{json.dumps({**asdict(record), 'at': at}, ensure_ascii=False)}\n")

    async def close(self) -> None: ...


class PostgresAudit(PostgresTable):
    """Insert records into a table in PostgreSQL, created at the first record."""

    def __init__(self, dsn: str, table: str = "kryonix_audit") -> None:
        columns = """
            at timestamptz NOT NULL, tenant text NOT NULL, application text NOT NULL, message_id text NOT NULL,
            module text NOT NULL, action text NOT NULL, exchange text NOT NULL, routing_key text NOT NULL,
            priority integer NOT NULL, bytes integer NOT NULL, outcome text NOT NULL,
            milliseconds double precision NOT NULL, PRIMARY KEY (message_id, at)"""
        super().__init__(dsn, table, columns)

    async def write(self, records: Sequence[AuditRecord]) -> None:
        names = ", ".join(AuditRecord.__slots__)
        marks = ", ".join(f"%({name})s" for name in AuditRecord.__slots__)
        # A batch is written again if the answer to its commit was lost.
        statement = f"INSERT INTO {{table}} ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608 - own names
        await self._execute(statement, [asdict(record) for record in records])
