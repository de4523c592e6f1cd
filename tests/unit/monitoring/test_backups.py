"""Figures of backups."""

from __future__ import annotations

from datetime import UTC, datetime

from kryonix.monitoring.backups import newest_figures
from kryonix.registry.backups import NewestBackups
from tests.support.scrapes import recorded

MADE = datetime(2026, 11, 28, 2, tzinfo=UTC)
ACME = NewestBackups(
    stack="dev",
    kind="tenant",
    subject="acme",
    created=MADE,
    verified=MADE,
    bytes=4_000,
    error="",
    verify_error="queue x is missing",
    expected_since=MADE,
    seen_at=MADE,
)
DEV = NewestBackups(
    stack="dev",
    kind="platform",
    subject="dev",
    created=None,
    verified=None,
    bytes=None,
    error="the store is full",
    verify_error="",
    expected_since=None,
    seen_at=None,
)


def figures(*found: NewestBackups) -> dict[tuple[str, ...], float]:
    families = newest_figures(found)
    assert {family.name for family in families} <= recorded().keys()
    samples = [sample for family in families for sample in family.samples]
    return {
        (sample.name.removeprefix("kryonix_backup_"), *filter(None, sample.labels.values())): sample.value
        for sample in samples
    }


def test_a_tenants_figures_carry_its_id() -> None:
    at = MADE.timestamp()
    assert figures(ACME) == {
        ("created_timestamp_seconds", "tenant", "acme"): at,
        ("verified_timestamp_seconds", "tenant", "acme"): at,
        ("expected_timestamp_seconds", "tenant", "acme"): at,
        ("size_bytes", "tenant", "acme"): 4_000,
        ("failed", "tenant", "acme"): 0,
        ("verify_failed", "tenant", "acme"): 1,
    }


def test_what_a_platform_has_none_of_has_no_series() -> None:
    assert figures(DEV) == {("failed", "platform", "dev"): 1, ("verify_failed", "platform", "dev"): 0}
