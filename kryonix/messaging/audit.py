"""A record of every message sent and of how each ended, written aside: it is bounded, and never holds up a send."""

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
from typing import Any, Final, Protocol

from kryonix.messaging.checks import shown
from kryonix.messaging.errors import ConfigurationError
from kryonix.messaging.postgres import Postgres, checked_name

__all__ = ["AuditRecord", "AuditSink", "Auditor", "JsonLinesAudit", "PostgresAudit"]

log = logging.getLogger("kryonix.messaging")

_CAPACITY: Final = 10_000
_BATCH: Final = 500
_GOODBYE: Final = 5.0


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """What was sent where and how it ended. Never the data itself."""

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


class AuditSink(Protocol):
    """Where audit records go. It may be slow or fail: sends go on, and what can't be kept is counted."""

    async def write(self, records: Sequence[AuditRecord]) -> None: ...

    async def close(self) -> None: ...


class Auditor:
    """The queue in front of a sink."""

    def __init__(self, sink: AuditSink, capacity: int = _CAPACITY) -> None:
        self._sink, self._capacity = sink, capacity
        self._records: deque[AuditRecord] = deque()
        self._wake = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._closed = False
        self.dropped = 0
        """Records that found the queue full or that the sink would not take."""

    def note(self, record: AuditRecord) -> None:
        """Take a record, at once and without waiting."""
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
            while self._records:
                await self._write_some()

    async def _write_some(self) -> None:
        """Records leave the queue once the sink has them, so that close() knows of all that were not written."""
        batch = list(islice(self._records, _BATCH))
        try:
            await self._sink.write(batch)
        except Exception as error:  # noqa: BLE001 - a sink is the user's: whatever it raises, sends go on
            self._drop(len(batch), f"{type(error).__name__}: {error}")
            await asyncio.sleep(0.1)
        for _ in batch:
            self._records.popleft()

    async def close(self) -> None:
        """Write what is left, for a few seconds at most."""
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
            log.exception("the audit sink can't be closed")


class JsonLinesAudit:
    """A file with one JSON object per line, appended to."""

    def __init__(self, path: str | Path) -> None:
        try:
            self._path = Path(path)
        except TypeError as error:
            raise ConfigurationError(f"{shown(path)} is no path", remedy="Name a file") from error

    async def write(self, records: Sequence[AuditRecord]) -> None:
        lines = "".join(f"{json.dumps(_plain(record), ensure_ascii=False)}\n" for record in records)
        await asyncio.to_thread(self._append, lines)

    def _append(self, lines: str) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(lines)

    async def close(self) -> None:
        return None


def _plain(record: AuditRecord) -> dict[str, Any]:
    return asdict(record) | {"at": record.at.astimezone(UTC).isoformat(timespec="milliseconds")}


class PostgresAudit:
    """A table in PostgreSQL, made at the first record unless it is there."""

    def __init__(self, dsn: str, table: str = "kryonix_audit") -> None:
        self._table = checked_name(table)
        self._postgres = Postgres(
            dsn,
            f"""CREATE TABLE IF NOT EXISTS {self._table} (
                at timestamptz NOT NULL, tenant text NOT NULL, application text NOT NULL, message_id text NOT NULL,
                module text NOT NULL, action text NOT NULL, exchange text NOT NULL, routing_key text NOT NULL,
                priority integer NOT NULL, bytes integer NOT NULL, outcome text NOT NULL,
                milliseconds double precision NOT NULL, PRIMARY KEY (message_id, at))""",
        )

    async def write(self, records: Sequence[AuditRecord]) -> None:
        fields = list(AuditRecord.__slots__)
        marks = ", ".join(f"%({name})s" for name in fields)
        # A batch is written again where the answer to its commit was lost.
        statement = (
            f"INSERT INTO {self._table} ({', '.join(fields)}) VALUES ({marks}) "  # noqa: S608 - checked names
            "ON CONFLICT DO NOTHING"
        )
        await self._postgres.execute_many(statement, [asdict(record) for record in records])

    async def close(self) -> None:
        await self._postgres.close()
