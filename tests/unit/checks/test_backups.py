"""Findings on backups."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from kryonix.checks.backups import OLDEST, backup_findings
from kryonix.checks.findings import Finding
from kryonix.registry.backups import NewestBackups

NOW = datetime(2026, 11, 28, 9, tzinfo=UTC)
MADE = NOW - timedelta(hours=7)
GOOD = NewestBackups(
    stack="dev",
    kind="tenant",
    subject="acme",
    created=MADE,
    verified=MADE,
    bytes=4_000,
    error="",
    verify_error="",
    expected_since=NOW - timedelta(days=9),
    seen_at=NOW,
)
OLD = replace(GOOD, verified=NOW - OLDEST - timedelta(seconds=1))


def findings(*found: NewestBackups) -> list[Finding]:
    return list(backup_findings(found, NOW, "dev"))


def test_young_verified_backups_are_no_finding() -> None:
    assert findings(GOOD, replace(GOOD, kind="platform", subject="dev")) == []
    assert findings(replace(GOOD, verified=NOW - OLDEST)) == []


def test_backups_that_no_schedule_makes_are_not_judged() -> None:
    (found,) = findings(replace(OLD, expected_since=None, error="the store is full"))
    assert (found.check, found.outcome) == ("backups", "not tried")


@pytest.mark.parametrize(
    ("newest", "why"),
    [
        (OLD, "the newest verified backup of acme is older than 26 h"),
        (replace(OLD, verified=None), "the newest verified backup of acme is older than 26 h"),
        (replace(GOOD, error="the store is full"), "the last attempt to back up acme failed: the store is full"),
        (
            replace(GOOD, error="", verify_error="queue x is missing"),
            "the last verification of a backup of acme failed: queue x is missing",
        ),
    ],
)
def test_a_problem_is_named_with_its_reason(newest: NewestBackups, why: str) -> None:
    (found,) = findings(newest)
    assert (found.outcome, found.why) == ("fail", why)
    assert "kryonix-dev-backup" in found.remedy


def test_a_subject_expected_for_a_short_time_may_have_no_backup() -> None:
    assert findings(replace(GOOD, created=None, verified=None, bytes=None, expected_since=MADE)) == []


def test_subjects_with_one_problem_are_one_finding() -> None:
    (found,) = findings(*(replace(OLD, subject=name) for name in "abcde"))
    assert found.why == "the newest verified backup of a, b, c and 2 more is older than 26 h"
