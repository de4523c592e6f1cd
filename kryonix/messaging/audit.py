"""A record of every send and its outcome, written in the background. It never delays a send."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from kryonix.messaging.postgres import PostgresTable

log = logging.getLogger("kryonix.messaging")

_CAPACITY: Final = 10_000
_BATCH: Final = 500
_GOODBYE: Final = 5.0


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


class Auditor:
    """A bounded queue in front of a sink."""

    def __init__(self, sink: AuditSink, capacity: int = _CAPACITY) -> None:
        self._sink, self._capacity = sink, capacity
        self._records: deque[AuditRecord] = deque()
        self._wake = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._closed = False
        self.dropped = 0
        """Number of records lost: the queue was full, or the sink failed."""

    def note(self, record: AuditRecord) -> None:
        """Take a record without waiting."""
        if self._closed or len(self._records) >= self._capacity:
            self._drop(1, "the client was closed" if self._closed else "the sink is too slow")
            return
        self._records.append(record)
        self._wake.set()
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write(), name="kryonix audit")

    def _drop(self, count: int, why: str) -> None:
        if not self.dropped:
            log.warning("audit records are dropped: %s", why)
        self.dropped += count

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while batch := list(islice(self._records, _BATCH)):
                try:
                    await self._sink.write(batch)
                except Exception as error:  # noqa: BLE001 - a sink may raise anything; sends continue
                    self._drop(len(batch), f"{type(error).__name__}: {error}")
                    await asyncio.sleep(0.1)
                # Not earlier: close() counts the rest as lost.
                for _ in batch:
                    self._records.popleft()

    async def close(self) -> None:
        """Write the remaining records, within a few seconds."""
        self._closed = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE):
                while self._records:
                    await asyncio.sleep(0.01)
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait([self._writer], timeout=_GOODBYE)
        if self._records:
            self._drop(len(self._records), "the client was closed")
        try:
            async with asyncio.timeout(_GOODBYE):
                await self._sink.close()
        except Exception:
            log.exception("cannot close the audit sink")


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
