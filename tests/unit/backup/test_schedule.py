"""When backups are due."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta, tzinfo
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kryonix.backup.schedule import Schedule

LISBON = ZoneInfo("Europe/Lisbon")
NIGHT = Schedule(at=time(2))


def slots(schedule: Schedule, start: datetime, days: int) -> list[datetime]:
    """Return the distinct slots seen by somebody who looks every quarter of an hour."""
    seen = (schedule.slot(start + n * timedelta(minutes=15)) for n in range(days * 96))
    return sorted(set(seen))


def test_the_slot_is_the_newest_that_has_begun() -> None:
    day = datetime(2026, 11, 28, tzinfo=UTC)
    assert NIGHT.slot(day.replace(hour=2)) == day.replace(hour=2)
    assert NIGHT.slot(day.replace(hour=23)) == day.replace(hour=2)
    assert NIGHT.slot(day.replace(hour=1, minute=59)) == datetime(2026, 11, 27, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "at", "start"),
    [
        (LISBON, time(1, 30), datetime(2026, 3, 27, tzinfo=UTC)),  # skipped on the 29th
        (LISBON, time(1, 30), datetime(2026, 10, 23, tzinfo=UTC)),  # twice on the 25th
        (ZoneInfo("Pacific/Apia"), time(2), datetime(2011, 12, 27, tzinfo=UTC)),  # without the 30th
        (ZoneInfo("America/Sao_Paulo"), time(0), datetime(2018, 11, 2, tzinfo=UTC)),  # midnight of the 4th is skipped
    ],
)
def test_each_day_has_one_slot_also_when_the_clock_changes(zone: tzinfo, at: time, start: datetime) -> None:
    found = slots(Schedule(at=at, zone=zone), start, 5)
    assert all(timedelta(hours=22) <= later - slot <= timedelta(hours=26) for slot, later in pairwise(found))
    assert len(found) in (5, 6)


def test_a_time_that_the_clock_skips_is_due_an_hour_later() -> None:
    slot = Schedule(at=time(1, 30), zone=LISBON).slot(datetime(2026, 3, 29, 12, tzinfo=UTC))
    assert slot.astimezone(LISBON).time() == time(2, 30)


def test_a_time_that_the_clock_repeats_is_due_the_first_time() -> None:
    slot = Schedule(at=time(1, 30), zone=LISBON).slot(datetime(2026, 10, 25, 12, tzinfo=UTC))
    assert slot == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


@given(
    st.datetimes(timezones=st.timezones(), min_value=datetime(1990, 1, 1), max_value=datetime(2060, 1, 1)), st.times()
)
def test_a_slot_has_begun_and_is_at_most_two_days_old(now: datetime, at: time) -> None:
    assert now.tzinfo is not None
    slot = Schedule(at=at.replace(microsecond=0), zone=now.tzinfo).slot(now)
    assert timedelta() <= now - slot <= timedelta(days=2)
    assert slot.tzinfo is UTC


def test_tenants_are_spread_over_the_jitter_and_the_platform_is_first() -> None:
    spread = Schedule(at=time(2), jitter=timedelta(minutes=15))
    slot = spread.slot(datetime(2026, 11, 28, 9, tzinfo=UTC))
    due = [spread.due("tenant", f"tenant-{n}", slot) for n in range(300)]
    assert spread.due("platform", "dev", slot) == slot
    assert slot <= min(due) < slot + timedelta(minutes=1)
    assert spread.all_due(slot) - timedelta(minutes=1) < max(due) <= spread.all_due(slot)
    quarters = [sum((moment - slot) // timedelta(minutes=15 / 4) == n for moment in due) for n in range(4)]
    assert min(quarters) >= 45
    assert due == [spread.due("tenant", f"tenant-{n}", slot) for n in range(300)]
