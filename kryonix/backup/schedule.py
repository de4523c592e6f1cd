"""When backups are due: once a day at a time of a zone, each tenant a little later than the platform."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from hashlib import sha256
from typing import Final

from kryonix.registry.backups import BackupKind

_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A daily schedule. A slot is the moment of one day; the bundles of that day have it in their names.

    A time that a change of the clock skips is due an hour later; one that it repeats is due the first time.
    """

    at: time
    zone: tzinfo = UTC
    jitter: timedelta = timedelta()
    """Tenants are due within this time after the slot, so that they don't load the broker and the store at once."""

    def slot(self, now: datetime) -> datetime:
        """Return the newest slot that has begun, in UTC."""
        today = now.astimezone(self.zone).date()
        days = [today + n * _DAY for n in (-2, -1, 0, 1)]  # a zone may skip or repeat a day
        slots = [datetime.combine(day, self.at, tzinfo=self.zone).astimezone(UTC) for day in days]
        return max(slot for slot in slots if slot <= now)

    def due(self, kind: BackupKind, subject: str, slot: datetime) -> datetime:
        """Return when a subject's bundle of a slot is due: the platform's first, a tenant's each day equally late."""
        if kind == "platform":
            return slot
        share = int.from_bytes(sha256(subject.encode()).digest()[:8], "big") / 2**64
        return slot + self.jitter * share

    def all_due(self, slot: datetime) -> datetime:
        """Return when every subject's bundle of a slot is due."""
        return slot + self.jitter
