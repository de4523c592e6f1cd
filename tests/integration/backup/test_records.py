"""Records of backups, on a real registry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from kryonix.monitoring.backups import backup_figures
from kryonix.registry import backups
from kryonix.registry.backups import BackupKey, NewestBackups
from kryonix.registry.connection import Connection, connect
from tests.integration.signup.conftest import WRITER, Registry

NIGHT = datetime(2026, 11, 28, 2, tzinfo=UTC)
DAY = timedelta(days=1)
ACME = BackupKey(stack="dev", kind="tenant", subject="acme", at=NIGHT)
BUNDLE = "s3://bundles/dev/tenants/acme/20261128T020000Z.tar.zst.age"


@pytest.fixture
def connection(registry: Registry) -> Iterator[Connection]:
    registry.query("TRUNCATE tenants.backups, tenants.backup_schedules")
    with connect(registry.dsn(WRITER)) as connection:
        yield connection


def created(connection: Connection, key: BackupKey, size: int = 4_000) -> None:
    backups.record_created(connection, key, address=BUNDLE, started_at=key.at, bytes=size)


def failed(connection: Connection, key: BackupKey, error: str = "the store does not answer") -> None:
    backups.record_failed(connection, key, address=BUNDLE, started_at=key.at, error=error)


def newest(connection: Connection) -> NewestBackups:
    (found,) = backups.fetch_newest_backups(connection)
    return found


def test_the_newest_bundle_and_the_newest_verified_one_differ(connection: Connection) -> None:
    created(connection, ACME)
    backups.record_verified(connection, ACME, address=BUNDLE, bytes=4_000)
    created(connection, replace(ACME, at=NIGHT + DAY), 5_000)
    found = newest(connection)
    assert (found.created, found.verified, found.bytes) == (NIGHT + DAY, NIGHT, 5_000)
    assert (found.error, found.verify_error, found.expected_since) == ("", "", None)


def test_a_failure_shows_until_an_attempt_succeeds(connection: Connection) -> None:
    created(connection, ACME)
    for days in (1, 2):
        failed(connection, replace(ACME, at=NIGHT + days * DAY), f"failure {days}")
    assert (newest(connection).created, newest(connection).error) == (NIGHT, "failure 2")
    created(connection, replace(ACME, at=NIGHT + 2 * DAY))
    assert (newest(connection).created, newest(connection).error) == (NIGHT + 2 * DAY, "")
    rows = connection.execute("SELECT at FROM tenants.backups ORDER BY at").fetchall()
    assert [row["at"] for row in rows] == [NIGHT, NIGHT + 2 * DAY]


def test_a_failed_attempt_never_hides_the_bundle_that_exists(connection: Connection) -> None:
    created(connection, ACME)
    failed(connection, ACME)
    assert (newest(connection).created, newest(connection).bytes, newest(connection).error) == (NIGHT, 4_000, "")


def test_a_failed_verification_shows_until_one_succeeds(connection: Connection) -> None:
    created(connection, ACME)
    backups.record_verified(connection, ACME, address=BUNDLE, bytes=4_000, error="queue x differs")
    assert (newest(connection).verified, newest(connection).verify_error) == (None, "queue x differs")
    backups.record_verified(connection, ACME, address=BUNDLE, bytes=4_000)
    assert (newest(connection).verified, newest(connection).verify_error) == (NIGHT, "")


def test_a_verified_bundle_without_a_record_gets_one(connection: Connection) -> None:
    backups.record_verified(connection, ACME, address=BUNDLE, bytes=4_000)
    assert (newest(connection).created, newest(connection).verified, newest(connection).bytes) == (NIGHT, NIGHT, 4_000)


def test_the_record_of_a_deleted_bundle_goes(connection: Connection) -> None:
    created(connection, ACME)
    backups.forget_backup(connection, ACME)
    assert backups.fetch_newest_backups(connection) == []


def test_a_schedule_expects_exactly_its_subjects(connection: Connection) -> None:
    created(connection, ACME)
    backups.expect_backups(connection, "dev", [("platform", "dev"), ("tenant", "acme"), ("tenant", "beta")])
    backups.expect_backups(connection, "other", [("platform", "other")])
    connection.commit()
    before = {(found.stack, found.subject): found for found in backups.fetch_newest_backups(connection)}
    assert set(before) == {("dev", "acme"), ("dev", "beta"), ("dev", "dev"), ("other", "other")}
    backups.expect_backups(connection, "dev", [("platform", "dev"), ("tenant", "acme")])
    after = {found.subject: found for found in backups.fetch_newest_backups(connection, stack="dev")}
    assert set(after) == {"acme", "dev"}
    assert after["acme"].expected_since == before["dev", "acme"].expected_since
    assert after["acme"].seen_at > before["dev", "acme"].seen_at  # type: ignore[operator]  # both were just seen
    backups.expect_backups(connection, "dev", [])
    (left,) = backups.fetch_newest_backups(connection, stack="dev")
    assert (left.subject, left.expected_since) == ("acme", None)


def test_the_exporter_serves_tenants_that_exist_and_platforms(connection: Connection, registry: Registry) -> None:
    registry.query(
        "INSERT INTO tenants.desired_states (cliente_id, modules, plan, status, cell) VALUES "
        "('acme', '[]', 'basic', 'active', 'main'), ('gone', '[]', 'basic', 'removed', 'main')"
    )
    for key in (ACME, replace(ACME, subject="gone"), replace(ACME, kind="platform", subject="dev")):
        created(connection, key)
    connection.commit()
    created_at = backup_figures(registry.dsn(WRITER))[0].samples
    assert [[*sample.labels.values()] for sample in created_at] == [["platform", "", "dev"], ["tenant", "acme", ""]]
    assert {sample.value for sample in created_at} == {NIGHT.timestamp()}


def test_two_schedules_of_one_stack_never_run_at_once(connection: Connection, registry: Registry) -> None:
    with connect(registry.dsn(WRITER)) as other:
        assert backups.try_lock(connection, "dev")
        assert not backups.try_lock(other, "dev")
        assert backups.try_lock(other, "staging")
