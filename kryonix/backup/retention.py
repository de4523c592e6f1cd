"""Which bundles are kept: the newest of each day, week and month, as restic counts them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Final

from kryonix.backup.names import BundleName

NEWEST: Final = "newest"
VERIFIED: Final = "newest verified"

_PERIODS: Final[Mapping[str, Callable[[datetime], tuple[int, ...]]]] = {
    "daily": lambda at: (at.year, at.month, at.day),
    "weekly": lambda at: tuple(at.isocalendar()[:2]),
    "monthly": lambda at: (at.year, at.month),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How many days, weeks and months keep their newest bundle. They begin at midnight in `zone`."""

    daily: int = 7
    weekly: int = 5
    monthly: int = 12
    zone: tzinfo = UTC

    def decide(
        self, names: Iterable[BundleName], verified: Collection[BundleName] = ()
    ) -> Mapping[BundleName, tuple[str, ...]]:
        """Return why each bundle is kept. Those without a reason may be deleted.

        The newest bundle of a tenant or of the platform is always kept, and so is its newest verified one.
        """
        subjects = defaultdict(list)
        for name in sorted(set(names), reverse=True):
            subjects[name.stack, name.kind, name.subject].append(name)
        reasons: dict[BundleName, list[str]] = defaultdict(list)
        for ordered in subjects.values():
            reasons[ordered[0]].append(NEWEST)
            for name in [name for name in ordered if name in verified][:1]:
                reasons[name].append(VERIFIED)
            for period in _PERIODS:
                for name, reason in self._kept(ordered, period):
                    reasons[name].append(reason)
        return {name: tuple(reasons[name]) for ordered in subjects.values() for name in ordered}

    def _kept(self, ordered: Sequence[BundleName], period: str) -> Iterable[tuple[BundleName, str]]:
        """Yield what one period keeps of a subject's bundles, newest first.

        Where there are fewer periods than are wanted, the oldest bundle is kept too, for the longest history.
        """
        left, last = getattr(self, period), None
        for name in ordered:
            current = _PERIODS[period](name.at.astimezone(self.zone))
            if left and current != last:
                left, last = left - 1, current
                yield name, period
            elif left and name == ordered[-1]:
                yield name, f"oldest {period}"
