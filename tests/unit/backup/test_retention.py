"""Retention keeps the newest bundle of each day, week and month, and never drops the newest or the newest verified."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from kryonix.backup.names import BundleName
from kryonix.backup.retention import NEWEST, VERIFIED, Retention

MONDAY = datetime(2026, 11, 30, 2, tzinfo=UTC)
NOTHING = Retention(daily=0, weekly=0, monthly=0)


def bundle(at: datetime, subject: str = "acme") -> BundleName:
    return BundleName.of("prod", "tenant", subject, at)


def nightly(nights: int) -> list[BundleName]:
    """Return bundles of as many nights, newest first."""
    return [bundle(MONDAY - timedelta(days=night)) for night in range(nights)]


def kept(retention: Retention, names: list[BundleName]) -> list[BundleName]:
    return [name for name, reasons in retention.decide(names).items() if reasons]


def test_the_newest_of_each_day_is_kept() -> None:
    morning, evening = bundle(MONDAY), bundle(MONDAY + timedelta(hours=20))
    day_before = nightly(2)[1]
    reasons = Retention(daily=2, weekly=0, monthly=0).decide([morning, day_before, evening])
    assert reasons == {evening: (NEWEST, "daily"), morning: (), day_before: ("daily",)}


def test_each_period_counts_for_itself() -> None:
    names = nightly(400)
    assert kept(Retention(daily=7, weekly=0, monthly=0), names) == names[:7]
    weekly = kept(Retention(daily=0, weekly=5, monthly=0), names)
    assert [name.at.isoweekday() for name in weekly] == [1, 7, 7, 7, 7]
    monthly = kept(Retention(daily=0, weekly=0, monthly=12), names)
    assert [name.at.day for name in monthly][:4] == [30, 31, 30, 31]
    assert len(kept(Retention(), names)) == 7 + 4 + 10  # a bundle may be the newest of a day and of its month


def test_days_without_a_bundle_are_not_counted() -> None:
    names = nightly(30)[::10]
    assert kept(Retention(daily=3, weekly=0, monthly=0), names) == names


def test_the_oldest_is_kept_until_there_are_enough_periods() -> None:
    names = nightly(3)
    reasons = Retention(daily=0, weekly=0, monthly=2).decide(names)
    assert [reasons[name] for name in names] == [(NEWEST, "monthly"), (), ("oldest monthly",)]


def test_the_newest_and_the_newest_verified_are_always_kept() -> None:
    names = nightly(5)
    reasons = NOTHING.decide(names, verified=[names[4], names[2]])
    assert [reasons[name] for name in names] == [(NEWEST,), (), (VERIFIED,), (), ()]


def test_each_tenant_is_counted_for_itself() -> None:
    ours, theirs = nightly(1)[0], bundle(MONDAY - timedelta(days=99), "beta")
    assert NOTHING.decide([ours, theirs]) == {ours: (NEWEST,), theirs: (NEWEST,)}


def test_a_day_begins_at_midnight_of_the_zone() -> None:
    late, early = bundle(MONDAY.replace(hour=1)), bundle(MONDAY.replace(hour=23) - timedelta(days=1))
    keep = {"daily": 1, "weekly": 0, "monthly": 0}
    assert Retention(**keep, zone=ZoneInfo("America/Sao_Paulo")).decide([early, late])[early] == ()
    both = Retention(daily=2, weekly=0, monthly=0).decide([early, late])
    assert both == {late: (NEWEST, "daily"), early: ("daily",)}


def test_nothing_to_decide_is_nothing_to_delete() -> None:
    assert Retention().decide([]) == {}


@settings(max_examples=50, deadline=None)
@given(st.sets(st.integers(0, 400 * 24), min_size=1, max_size=60), st.tuples(*[st.integers(0, 5)] * 3))
def test_deleting_twice_deletes_no_more(hours: set[int], counts: tuple[int, int, int]) -> None:
    retention = Retention(daily=counts[0], weekly=counts[1], monthly=counts[2])
    names = [bundle(MONDAY - timedelta(hours=hour)) for hour in hours]
    once = kept(retention, names)
    assert kept(retention, once) == once
    assert max(names) in once
