"""Notes in a table of PostgreSQL: one row a message, written by its sender and by its consumers, in any order."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Final

from kryonix.messaging.checks import check_type
from kryonix.messaging.errors import ConfigurationError
from kryonix.messaging.outcomes.joining import GRACE_S, check_one_tenant, outcome_of
from kryonix.messaging.outcomes.note import Consumed, Note, Published, key_of
from kryonix.messaging.postgres import PostgresTable
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
_KEY: Final = ("tenant", "module", "action", "message_id")
_PUBLISHED: Final = tuple(each.name for each in fields(Published) if each.name not in _KEY)

_NAMES: Final = ", ".join([*_KEY, *(f'"{name}"' for name in _PUBLISHED)])
_MARKS: Final = ", ".join([f"%({name})s" for name in (*_KEY, *_PUBLISHED)])
_SET: Final = ", ".join([f'"{name}" = EXCLUDED."{name}"' for name in _PUBLISHED])
_PUBLISH: Final = f"""
    INSERT INTO {{table}} AS note ({_NAMES}) VALUES ({_MARKS})
    ON CONFLICT (tenant, module, action, message_id) DO UPDATE SET {_SET}, noted_at = clock_timestamp()
    WHERE note.at IS NULL"""  # noqa: S608 - own names
_CONSUMED: Final = ("consumed_at", "handled_ms", "attempts", "outcome")
_LATER: Final = ", ".join(
    f"{name} = CASE WHEN EXCLUDED.attempts >= coalesce(note.attempts, 0) THEN EXCLUDED.{name} ELSE note.{name} END"
    for name in _CONSUMED
)
_CONSUME: Final = f"""
    INSERT INTO {{table}} AS note (tenant, module, action, message_id, waited_ms, {", ".join(_CONSUMED)})
    VALUES (%(tenant)s, %(module)s, %(action)s, %(message_id)s, %(waited_ms)s, %(at)s, %(handled_ms)s, %(attempts)s,
            %(outcome)s)
    ON CONFLICT (tenant, module, action, message_id) DO UPDATE SET
        waited_ms = coalesce(note.waited_ms, EXCLUDED.waited_ms), noted_at = clock_timestamp(), {_LATER}"""  # noqa: S608
_GONE: Final = f"""
    note.outcome IS NULL AND note.expires_ms IS NOT NULL AND note.at + note.expires_ms / 1000 + {GRACE_S} < %(now)s
    AND EXISTS (SELECT FROM {{table}} AS other WHERE (other.tenant, other.module, other.action)
        = (note.tenant, note.module, note.action) AND other.consumed_at > note.at + note.expires_ms / 1000)"""
_JOINED: Final = f"""
    SELECT tenant, module, action, message_id, {", ".join(f'"{name}"' for name in _PUBLISHED)}, waited_ms, handled_ms,
        coalesce(attempts, 0), coalesce(outcome, 'expired')
    FROM {{table}} AS note
    WHERE at >= %(since)s AND at < %(until)s AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
        AND (outcome IS NOT NULL OR ({_GONE}))
    ORDER BY at"""  # noqa: S608
_RESULTS: Final = f"""
    SELECT module, action, message_id, decision <> 'learned', time, handled_ms,
        CASE WHEN expires_ms IS NULL THEN NULL ELSE outcome IS NULL OR waited_ms > expires_ms END
    FROM {{table}} AS note
    WHERE version = %(version)s AND tenant = %(tenant)s AND (
        (noted_at > to_timestamp(%(since)s) AND noted_at <= to_timestamp(%(now)s) AND outcome IN ('done', 'dead'))
        OR (noted_at > to_timestamp(%(since)s) - interval '1 day'
            AND note.at + note.expires_ms / 1000 + {GRACE_S} > %(since)s AND {_GONE}))
    LIMIT 20000"""  # noqa: S608
_CLEAN: Final = """
    DELETE FROM {table} WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM {table} WHERE noted_at < clock_timestamp() - %(keep)s LIMIT %(rows)s))"""


@dataclass(frozen=True, slots=True)
class Result:
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
        # In one order: two processes that write the same messages must not wait for each other.
        ordered = sorted(notes, key=key_of)
        for statement, kind in ((_PUBLISH, Published), (_CONSUME, Consumed)):
            if rows := [_row(note) for note in ordered if isinstance(note, kind)]:
                await self._execute(statement, rows)
        if time.monotonic() - self._cleaned > _CLEANING_S:
            self._cleaned = time.monotonic()
            await self._execute(_CLEAN, {"keep": self._keep, "rows": _CLEANED})

    async def joined(self, since: datetime, until: datetime, *, tenant: str | None = None) -> list[Outcome]:
        """Return the outcomes of the messages sent from `since` to before `until`, the earliest first.

        Messages without a note of their sender are left out, and those that may still be waiting. Raises InvalidChoice
        for a table with notes of several tenants, unless `tenant` names one.
        """
        asked = {"since": since.timestamp(), "until": until.timestamp(), "now": time.time(), "tenant": tenant}
        rows = await self._fetch(_JOINED, asked)
        check_one_tenant({row[0] for row in rows})
        names = (*_KEY, *_PUBLISHED)
        found = []
        for row in rows:
            sent = Published(**dict(zip(names, row, strict=False)))
            found.append(outcome_of(sent, *row[len(names) :]))
        return found

    async def results(self, tenant: str, version: str, since: float) -> tuple[list[Result], float]:
        """Return what became of a model's messages since a time, and the time for the next call (s since 1970)."""
        now = time.time() - _SETTLED_S
        asked = {"tenant": tenant, "version": version, "since": since, "now": now}
        rows = await self._fetch(_RESULTS, asked)
        return [Result((row[0], row[1]), *row[2:]) for row in rows], now


def _row(note: Note) -> Mapping[str, Any]:
    """Return a note as PostgreSQL can hold it: text has neither NUL nor half characters there."""
    return {
        name: value.encode(errors="backslashreplace").decode().replace("\0", "\\0") if isinstance(value, str) else value
        for name, value in asdict(note).items()
    }
