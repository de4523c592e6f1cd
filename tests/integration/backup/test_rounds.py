"""The rounds of a schedule, on a real registry and a folder. What a bundle holds is made up here."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from threading import Event, Lock
from types import SimpleNamespace
from typing import Any

import pytest

from kryonix.backup import creation, rounds
from kryonix.backup.archive import Archive
from kryonix.backup.creation import Creation
from kryonix.backup.encryption import Identities, Recipients
from kryonix.backup.errors import Changing, InvalidBundle, StoreUnreachable
from kryonix.backup.names import BundleName
from kryonix.backup.retention import Retention
from kryonix.backup.rounds import AGAIN, Rounds
from kryonix.backup.schedule import Schedule
from kryonix.backup.store import BundleStore
from kryonix.errors import KryonixError
from kryonix.registry.backups import NewestBackups, expect_backups, fetch_newest_backups, try_lock
from kryonix.registry.connection import connect
from kryonix.topology.cells import single_cell
from tests.integration.signup.conftest import WRITER, Registry
from tests.support.bundles import FACTS, keys
from tests.support.project import free_port

NIGHT = datetime(2026, 11, 28, 2, tzinfo=UTC)
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
DAILY = Schedule(at=time(2), jitter=15 * MINUTE)
KEYS = keys()


@dataclass
class World:
    """A platform with the tenants acme and beta, and the time. `failures` are of reading, by subject."""

    registry: Registry
    folder: Path
    now: datetime = NIGHT + 20 * MINUTE
    recipients: Recipients = KEYS[0]
    failures: dict[str, Exception] = field(default_factory=dict)
    reads: list[str] = field(default_factory=list)
    verified: list[str] = field(default_factory=list)
    verdicts: dict[str, str | KryonixError] = field(default_factory=dict)
    away: bool = False
    _lock: Lock = field(default_factory=Lock)

    def read(self, broker: Any, dsn: str, engine: Any, subject: str) -> Any:
        with self._lock:
            self.reads.append(subject)
        if subject in self.failures:
            raise self.failures[subject]
        return SimpleNamespace(members=lambda: {"rows.json": b"{}"}), FACTS

    def verify(self, bundle: Any, broker: Any, dsn: str) -> Any:
        subject = bundle.manifest.subject
        self.verified.append(subject)
        verdict = self.verdicts.get(subject, "")
        if isinstance(verdict, KryonixError):
            raise verdict
        return SimpleNamespace(error=verdict, seconds=0.1)

    def opened(self) -> Creation:
        engine: Any = SimpleNamespace(outputs=lambda spec: {}, export=lambda spec, **_: {})
        return Creation(
            stack="dev",
            registry_dsn=f"postgresql://kryonix@127.0.0.1:{free_port()}/x" if self.away else self.registry.dsn(WRITER),
            engine=engine,
            cells=single_cell("dev"),
            archive=Archive(BundleStore.open(str(self.folder)), "dev"),
            recipients=self.recipients,
        )

    def rounds(self, identities: Identities = KEYS[1], **options: Any) -> Rounds:
        retention = Retention(daily=2, weekly=0, monthly=0)
        return Rounds(self.opened, DAILY, retention, identities, clock=lambda: self.now, **options)

    def bundles(self) -> list[tuple[str, datetime]]:
        return sorted((name.subject, name.at) for name, _ in self.opened().archive.bundles())

    def newest(self) -> dict[str, NewestBackups]:
        with connect(self.registry.dsn(WRITER)) as connection:
            return {each.subject: each for each in fetch_newest_backups(connection)}


@pytest.fixture
def world(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    registry.query("TRUNCATE tenants.backups, tenants.backup_schedules")
    registry.query(
        "INSERT INTO tenants.desired_states (cliente_id, modules, plan, status, cell) VALUES "
        "('acme', '[]', 'basic', 'active', 'main'), ('beta', '[]', 'basic', 'active', 'main')"
    )
    made = World(registry, tmp_path / "bundles")
    made.folder.mkdir()
    monkeypatch.setattr(creation, "read_tenant", made.read)
    monkeypatch.setattr(creation, "read_platform", made.read)
    monkeypatch.setattr("kryonix.backup.creation.Broker.of", lambda outputs: SimpleNamespace(vhosts=list))
    monkeypatch.setattr(rounds, "verify", made.verify)
    return made


def test_each_subject_gets_one_verified_bundle_a_day(world: World) -> None:
    schedule = world.rounds()
    for _ in range(3):
        schedule.run()
    assert world.bundles() == [("acme", NIGHT), ("beta", NIGHT), ("dev", NIGHT)]
    assert sorted(world.verified) == ["acme", "beta", "dev"]
    world.now += DAY
    schedule.run()
    assert len(world.bundles()) == 6
    assert {each.verified for each in world.newest().values()} == {NIGHT + DAY}
    assert all(each.expected_since for each in world.newest().values())


def test_a_restarted_schedule_makes_what_was_missed_and_nothing_twice(world: World) -> None:
    world.now = NIGHT + 9 * 60 * MINUTE
    world.rounds().run()
    world.rounds().run()
    assert world.bundles() == [("acme", NIGHT), ("beta", NIGHT), ("dev", NIGHT)]
    assert len(world.reads) == len(world.verified) == 3


def test_a_tenant_waits_for_its_moment_and_the_platform_does_not(world: World) -> None:
    schedule = world.rounds()
    world.now = NIGHT
    schedule.run()
    assert world.bundles() == [("dev", NIGHT)]
    world.now = NIGHT + 15 * MINUTE
    schedule.run()
    assert len(world.bundles()) == 3


def test_two_schedules_at_once_make_one_bundle_each(world: World) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda schedule: schedule.run(), [world.rounds(), world.rounds()]))
    assert world.bundles() == [("acme", NIGHT), ("beta", NIGHT), ("dev", NIGHT)]
    assert len(world.reads) == 3


def test_a_schedule_waits_while_another_runs(world: World, caplog: pytest.LogCaptureFixture) -> None:
    schedule = world.rounds()
    with connect(world.registry.dsn(WRITER)) as other:
        try_lock(other, "dev")
        schedule.run()
        schedule.run()
    assert (world.bundles(), world.reads) == ([], [])
    assert caplog.text.count("another schedule of this stack runs") == 1
    schedule.run()
    assert len(world.bundles()) == 3


def test_a_bundle_that_the_registry_does_not_know_is_recorded_and_verified(world: World) -> None:
    world.rounds().run()
    world.registry.query("TRUNCATE tenants.backups")
    world.rounds().run()
    assert {each.verified for each in world.newest().values()} == {NIGHT}
    assert all(each.bytes and not each.error for each in world.newest().values())
    assert len(world.bundles()) == 3


def test_a_failure_stops_no_other_and_is_tried_again(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.failures["acme"] = Changing("the platform changes")
    schedule = world.rounds()
    schedule.run()
    assert world.bundles() == [("beta", NIGHT), ("dev", NIGHT)]
    assert world.newest()["acme"].error == "the platform changes"
    schedule.run()
    assert world.reads.count("acme") == 1, "at once it would most likely fail again"
    world.failures.clear()
    world.now += AGAIN
    schedule.run()
    assert (world.newest()["acme"].error, world.newest()["acme"].verified) == ("", NIGHT)
    assert "the platform changes" in caplog.text


def test_a_store_that_is_away_fails_every_bundle_until_it_is_back(world: World) -> None:
    away = world.folder.rename(world.folder.with_name("away"))
    world.folder.touch()
    schedule = world.rounds()
    schedule.run()
    assert all(each.error for each in world.newest().values())
    world.folder.unlink()
    away.rename(world.folder)
    world.now += AGAIN
    schedule.run()
    assert len(world.bundles()) == 3
    assert {each.verified for each in world.newest().values()} == {NIGHT}


def test_another_store_gets_bundles_of_its_own(world: World) -> None:
    world.rounds().run()
    world.folder = world.folder.with_name("other")
    world.folder.mkdir()
    world.rounds().run()
    assert len(world.bundles()) == 3
    assert len(world.verified) == 6


def test_a_registry_that_is_away_is_waited_for(world: World, caplog: pytest.LogCaptureFixture) -> None:
    schedule = world.rounds()
    world.away = True
    schedule.run()
    assert "can't be used" in caplog.text
    world.away = False
    schedule.run()
    assert len(world.bundles()) == 3
    assert "works again" in caplog.text


@pytest.mark.parametrize("verdict", ["queue x is missing", InvalidBundle("the bundle", "is damaged")])
def test_a_bundle_that_would_not_restore_is_recorded_once(world: World, verdict: str | KryonixError) -> None:
    world.verdicts["acme"] = verdict
    schedule = world.rounds()
    schedule.run()
    world.now += AGAIN
    schedule.run()
    assert world.verified.count("acme") == 1
    assert (world.newest()["acme"].verified, world.newest()["acme"].verify_error) == (None, str(verdict))
    assert world.newest()["beta"].verified == NIGHT


def test_a_verification_without_an_answer_is_no_result(world: World) -> None:
    world.verdicts["acme"] = StoreUnreachable("the store does not answer")
    schedule = world.rounds()
    schedule.run()
    assert (world.newest()["acme"].verified, world.newest()["acme"].verify_error) == (None, "")
    world.verdicts.clear()
    world.now += AGAIN
    schedule.run()
    assert world.newest()["acme"].verified == NIGHT


def test_a_bundle_for_other_keys_is_neither_verified_nor_failed(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.recipients = keys()[0]
    schedule = world.rounds()
    schedule.run()
    world.now += AGAIN
    schedule.run()
    assert {(each.verified, each.verify_error) for each in world.newest().values()} == {(None, "")}
    assert caplog.text.count("none of the identities opens it") == 3


def test_old_bundles_go_with_their_records(world: World) -> None:
    schedule = world.rounds()
    for _ in range(4):
        schedule.run()
        world.now += DAY
    assert world.bundles() == [(s, NIGHT + days * DAY) for s in ("acme", "beta", "dev") for days in (2, 3)]
    assert world.registry.query("SELECT count(*) AS n FROM tenants.backups") == [{"n": 6}]


def test_the_newest_verified_bundle_stays_however_old(world: World) -> None:
    schedule = world.rounds()
    schedule.run()
    world.verdicts["acme"] = "queue x is missing"
    for _ in range(4):
        world.now += DAY
        schedule.run()
    assert ("acme", NIGHT) in world.bundles()
    assert ("beta", NIGHT) not in world.bundles()


def test_a_schedule_that_is_to_end_starts_no_further_bundle(world: World) -> None:
    ending = Event()
    ending.set()
    world.registry.query(
        "INSERT INTO tenants.desired_states (cliente_id, modules, plan, status, cell) "
        "SELECT 'tenant-' || n, '[]', 'basic', 'active', 'main' FROM generate_series(1, 60) AS n"
    )
    world.rounds(ending=ending).run()
    assert len(world.bundles()) < 30
    assert world.verified == []


def test_removed_tenants_are_expected_no_more(world: World) -> None:
    schedule = world.rounds()
    schedule.run()
    world.registry.query("UPDATE tenants.desired_states SET status = 'removed' WHERE cliente_id = 'beta'")
    schedule.run()
    assert {s for s, each in world.newest().items() if each.expected_since} == {"acme", "dev"}
    with connect(world.registry.dsn(WRITER)) as connection:
        expect_backups(connection, "dev", [])
    assert not any(each.expected_since for each in world.newest().values())
    assert BundleName.of("dev", "tenant", "beta", NIGHT) in [n for n, _ in world.opened().archive.bundles()]
