"""Notes in a table of PostgreSQL: one row a message, written by its sender and by its consumers, in any order."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from kryonix.messaging.checks import check_type
from kryonix.messaging.errors import ConfigurationError
from kryonix.messaging.postgres import PostgresTable

if TYPE_CHECKING:
    from kryonix.messaging.outcomes.note import Note
    from kryonix.routing.outcomes import Outcome

_CLEANING_S: Final = 10.0
"""Between two deletions of old rows."""
_CLEANED: Final = 5_000
"""Rows of one deletion."""
_SETTLED_S: Final = 2.0
"""A batch may commit so long after its rows were written."""

_COLUMNS: Final = """
    tenant text NOT NULL, module text NOT NULL, action text NOT NULL, message_id text NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT clock_timestamp(), at double precision, bytes bigint, device text, shape text,
    priority integer, expires_ms double precision, priority_used integer, decision text, propensity double precision,
    compressed_bytes bigint, time double precision, "left" double precision, version text,
    consumed_at double precision, waited_ms double precision, handled_ms double precision, attempts integer,
    outcome text, PRIMARY KEY (tenant, module, action, message_id)"""


class Result(NamedTuple):
    """What a model's guard learns of a message: the expected handling time (logarithm of ms) and the actual one."""

    route: tuple[str, str]
    message_id: str
    by_rules: bool
    time: float | None
    handled_ms: float | None
    missed: bool | None


class PostgresOutcomes(PostgresTable):
    """Keep notes in a table, created at the first note. Rows older than `keep` are deleted now and then."""

    def __init__(self, dsn: str, table: str = "kryonix_outcomes", keep: timedelta = timedelta(days=30)) -> None:
        check_type("keep", keep, timedelta)
        if keep <= timedelta(0):
            raise ConfigurationError(f"keep: {keep} is not a time", remedy="Pass a timedelta above 0")
        indexes = ("noted_at", "version, noted_at", "tenant, module, action, consumed_at", "at")
        super().__init__(dsn, table, _COLUMNS, indexes)
        self._keep = keep
        self._cleaned = time.monotonic()

    async def write(self, notes: Sequence[Note]) -> None:
        from kryonix.messaging.outcomes.note import Published, key_of
        from kryonix.messaging.outcomes.statements import CLEAN, CONSUME, PUBLISH

        # In one order: two processes that write the same messages must not wait for each other.
        ordered = sorted(notes, key=key_of)
        for statement, sent in ((PUBLISH, True), (CONSUME, False)):
            if rows := [_row(note) for note in ordered if isinstance(note, Published) is sent]:
                await self._execute(statement, rows)
        if time.monotonic() - self._cleaned > _CLEANING_S:
            self._cleaned = time.monotonic()
            await self._execute(CLEAN, {"keep": self._keep, "rows": _CLEANED})

    async def joined(self, since: datetime, until: datetime, *, tenant: str | None = None) -> list[Outcome]:
        """Return the outcomes of the messages sent from `since` to before `until`, the earliest first.

        Messages without a note of their sender are left out, and those that may still be waiting. Raises InvalidChoice
        for a table with notes of several tenants, unless `tenant` names one.
        """
        from kryonix.messaging.outcomes.joining import check_one_tenant, outcome_of
        from kryonix.messaging.outcomes.note import Published
        from kryonix.messaging.outcomes.statements import JOINED, KEY, PUBLISHED

        asked = {"since": since.timestamp(), "until": until.timestamp(), "now": time.time(), "tenant": tenant}
        rows = await self._fetch(JOINED, asked)
        check_one_tenant({row[0] for row in rows})
        names = (*KEY, *PUBLISHED)
        found = []
        for row in rows:
            sent = Published(**dict(zip(names, row, strict=False)))
            found.append(outcome_of(sent, *row[len(names) :]))
        return found

    async def results(self, tenant: str, version: str, since: float) -> tuple[list[Result], float]:
        """Return what became of a model's messages since a time, and the time for the next call (s since 1970)."""
        from kryonix.messaging.outcomes.statements import RESULTS

        now = time.time() - _SETTLED_S
        asked = {"tenant": tenant, "version": version, "since": since, "now": now}
        rows = await self._fetch(RESULTS, asked)
        return [Result((row[0], row[1]), *row[2:]) for row in rows], now


def _row(note: Note) -> Mapping[str, Any]:
    """Return a note as PostgreSQL can hold it: text has neither NUL nor half characters there."""
    return {
        name: value.encode(errors="backslashreplace").decode().replace("\0", "\\0") if isinstance(value, str) else value
        for name, value in asdict(note).items()
    }
