"""Join the notes of each message to its outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from kryonix.errors import InvalidChoice
from kryonix.messaging.outcomes.note import Consumed, Key, Note, Published, key_of
from kryonix.routing.outcomes import Outcome

GRACE_S: Final = 60.0
"""After its expiry a message is given so long to be noted as consumed."""


def join(
    notes: Iterable[Note],
    now: datetime,
    *,
    tenant: str | None = None,
    counts: Counter[str] | None = None,
) -> Iterator[Outcome]:
    """Yield the outcome of each message, in the order of sending.

    A message that was never noted as consumed has expired if its stated expiry is over, and later messages of its
    action were consumed. `counts` counts messages without an outcome: `unpublished` (sent by others, or before the
    notes began) and `open`. Raises InvalidChoice for notes of several tenants, unless `tenant` names one.
    """
    published: dict[Key, Published] = {}
    consumed: dict[Key, list[Consumed]] = {}
    counts = Counter() if counts is None else counts
    for note in notes:
        if tenant is not None and note.tenant != tenant:
            continue
        if isinstance(note, Published):
            published.setdefault(key_of(note), note)
        else:
            consumed.setdefault(key_of(note), []).append(note)
    check_one_tenant({key[0] for key in (*published, *consumed)})
    last = _last_consumed(consumed)
    counts["unpublished"] += len(consumed.keys() - published.keys())
    for key, sent in sorted(published.items(), key=lambda item: item[1].at):
        if attempts := consumed.get(key):
            yield _consumed(sent, attempts)
        elif has_expired(sent.at, sent.expires_ms, now.timestamp(), last.get(key[1:3])):
            yield outcome_of(sent, None, None, 0, "expired")
        else:
            counts["open"] += 1


def check_one_tenant(tenants: set[str]) -> None:
    """Raise InvalidChoice for several tenants: one's outcomes never train another's model by accident."""
    if len(tenants) > 1:
        raise InvalidChoice(f"these are notes of several tenants ({', '.join(sorted(tenants)[:5])}). Name one of them")


def has_expired(at: float, expires_ms: float | None, now: float, last_consumed: float | None) -> bool:
    """Return True if a message without a note of its handling has expired. Times are seconds since 1970."""
    if expires_ms is None or last_consumed is None:
        return False
    return at + expires_ms / 1000 + GRACE_S < now and at + expires_ms / 1000 < last_consumed


def _last_consumed(consumed: dict[Key, list[Consumed]]) -> dict[tuple[str, ...], float]:
    last: dict[tuple[str, ...], float] = {}
    for key, attempts in consumed.items():
        last[key[1:3]] = max(last.get(key[1:3], 0.0), *(each.at for each in attempts))
    return last


def _consumed(sent: Published, attempts: list[Consumed]) -> Outcome:
    final = max(attempts, key=lambda each: (each.attempts, each.at))
    waits = [each.waited_ms for each in sorted(attempts, key=lambda each: each.at) if each.waited_ms is not None]
    return outcome_of(sent, waits[0] if waits else None, final.handled_ms, final.attempts, final.outcome)


def outcome_of(
    sent: Published, waited_ms: float | None, handled_ms: float | None, attempts: int, became: str
) -> Outcome:
    return Outcome(
        module=sent.module,
        action=sent.action,
        at=sent.at,
        message_id=sent.message_id,
        bytes=sent.bytes,
        device=sent.device,
        shape=sent.shape,
        priority=sent.priority,
        expires_ms=sent.expires_ms,
        waited_ms=waited_ms,
        handled_ms=handled_ms,
        attempts=attempts,
        outcome=became,  # type: ignore[arg-type]
        priority_used=sent.priority_used,
        decision=sent.decision,
        propensity=sent.propensity,
        compressed_bytes=sent.compressed_bytes,
    )
