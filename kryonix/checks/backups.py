"""The age of the newest verified backups, and the results of the last ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

from kryonix.checks.findings import Finding
from kryonix.registry.backups import NewestBackups

OLDEST: Final = timedelta(hours=26)
"""Age of a newest verified backup that is reported: a day's schedule, and two hours for a long day and a slow run."""

_NAMED: Final = 3


def backup_findings(found: Iterable[NewestBackups], now: datetime, stack: str) -> Iterator[Finding]:
    """Yield a finding for each problem of the backups that a schedule is expected to make."""
    expected = [each for each in found if each.expected_since is not None]
    if not expected:
        yield Finding(check="backups", outcome="not tried", why="no schedule makes backups: kryonix:backup is off")
    remedy = f"`docker logs kryonix-{stack}-backup` says why. See docs/runbooks.md#tenantbackupold"
    for problem, affected in (
        ("the last attempt to back up %s failed", [each for each in expected if each.error]),
        ("the last verification of a backup of %s failed", [each for each in expected if each.verify_error]),
        ("the newest verified backup of %s is older than 26 h", [each for each in expected if _old(each, now)]),
    ):
        if affected:
            why = problem % _named([each.subject for each in affected])
            reasons = [reason for each in affected if (reason := each.error or each.verify_error)]
            why += f": {reasons[0]}" if reasons and "failed" in problem else ""
            yield Finding(check="backups", outcome="fail", why=why, remedy=remedy)


def _old(each: NewestBackups, now: datetime) -> bool:
    at = each.verified or each.expected_since
    return at is not None and now - at > OLDEST


def _named(subjects: list[str]) -> str:
    more = len(subjects) - _NAMED
    return ", ".join(subjects[:_NAMED]) + (f" and {more} more" if more > 0 else "")
