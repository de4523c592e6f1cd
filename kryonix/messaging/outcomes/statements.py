"""The statements on the table of notes."""

from __future__ import annotations

from dataclasses import fields
from typing import Final

from kryonix.messaging.outcomes.joining import GRACE_S
from kryonix.messaging.outcomes.note import Published

KEY: Final = ("tenant", "module", "action", "message_id")
PUBLISHED: Final = tuple(each.name for each in fields(Published) if each.name not in KEY)

_NAMES: Final = ", ".join([*KEY, *(f'"{name}"' for name in PUBLISHED)])
_MARKS: Final = ", ".join([f"%({name})s" for name in (*KEY, *PUBLISHED)])
_SET: Final = ", ".join([f'"{name}" = EXCLUDED."{name}"' for name in PUBLISHED])
PUBLISH: Final = f"""
    INSERT INTO {{table}} AS note ({_NAMES}) VALUES ({_MARKS})
    ON CONFLICT (tenant, module, action, message_id) DO UPDATE SET {_SET}, noted_at = clock_timestamp()
    WHERE note.at IS NULL"""  # noqa: S608 - own names
_CONSUMED: Final = ("consumed_at", "handled_ms", "attempts", "outcome")
_LATER: Final = ", ".join(
    f"{name} = CASE WHEN EXCLUDED.attempts >= coalesce(note.attempts, 0) THEN EXCLUDED.{name} ELSE note.{name} END"
    for name in _CONSUMED
)
CONSUME: Final = f"""
    INSERT INTO {{table}} AS note (tenant, module, action, message_id, waited_ms, {", ".join(_CONSUMED)})
    VALUES (%(tenant)s, %(module)s, %(action)s, %(message_id)s, %(waited_ms)s, %(at)s, %(handled_ms)s, %(attempts)s,
            %(outcome)s)
    ON CONFLICT (tenant, module, action, message_id) DO UPDATE SET
        waited_ms = coalesce(note.waited_ms, EXCLUDED.waited_ms), noted_at = clock_timestamp(), {_LATER}"""  # noqa: S608
_GONE: Final = f"""
    note.outcome IS NULL AND note.expires_ms IS NOT NULL AND note.at + note.expires_ms / 1000 + {GRACE_S} < %(now)s
    AND EXISTS (SELECT FROM {{table}} AS other WHERE (other.tenant, other.module, other.action)
        = (note.tenant, note.module, note.action) AND other.consumed_at > note.at + note.expires_ms / 1000)"""
JOINED: Final = f"""
    SELECT tenant, module, action, message_id, {", ".join(f'"{name}"' for name in PUBLISHED)}, waited_ms, handled_ms,
        coalesce(attempts, 0), coalesce(outcome, 'expired')
    FROM {{table}} AS note
    WHERE at >= %(since)s AND at < %(until)s AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
        AND (outcome IS NOT NULL OR ({_GONE}))
    ORDER BY at"""  # noqa: S608
RESULTS: Final = f"""
    SELECT module, action, message_id, decision <> 'learned', time, handled_ms,
        CASE WHEN expires_ms IS NULL THEN NULL ELSE outcome IS NULL OR waited_ms > expires_ms END
    FROM {{table}} AS note
    WHERE version = %(version)s AND tenant = %(tenant)s AND (
        (noted_at > to_timestamp(%(since)s) AND noted_at <= to_timestamp(%(now)s) AND outcome IN ('done', 'dead'))
        OR (noted_at > to_timestamp(%(since)s) - interval '1 day'
            AND note.at + note.expires_ms / 1000 + {GRACE_S} > %(since)s AND {_GONE}))
    LIMIT 20000"""  # noqa: S608
CLEAN: Final = """
    DELETE FROM {table} WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM {table} WHERE noted_at < clock_timestamp() - %(keep)s LIMIT %(rows)s))"""
