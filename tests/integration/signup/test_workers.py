"""Workers with a wrong clock, an older release, or a frozen database."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from procrastinate.exceptions import AlreadyEnqueued

from kryonix.signup.database import Database
from kryonix.signup.keys import SCOPES
from kryonix.signup.operations import enqueue
from tests.integration.signup.conftest import Registry, caller
from tests.support.project import ROOT
from tests.support.waiting import eventually


class Worker:
    def __init__(self, process: subprocess.Popen[bytes], log: Path, folder: Path) -> None:
        self.process, self._log, self._folder = process, log, folder

    @property
    def said(self) -> str:
        return self._log.read_text()

    def attempts(self, tenant: str) -> int:
        begun = self._folder / tenant
        return len(begun.read_text().splitlines()) if begun.exists() else 0


@contextmanager
def worker(dsn: str, folder: Path, *, clock_s: float = 0, failures: int = 0, ends: bool = False) -> Iterator[Worker]:
    log = folder / f"worker-{uuid4()}.log"
    command = [sys.executable, "-m", "tests.support.signup_working", dsn]
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [*command, str(clock_s), str(failures), str(folder)], cwd=ROOT, stdout=sink, stderr=sink
        )
    try:
        yield Worker(process, log, folder)
        assert (process.poll() is not None) is ends, f"it ended:\n{log.read_text()}"
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            pytest.fail(f"it did not end:\n{log.read_text()}")


def asked(registry: Registry, kind: str = "suspend", request: str = "{}") -> tuple[UUID, str]:
    """An operation with its job, as a web writes it."""
    id = uuid4()
    tenant = f"t{id.hex[:8]}"
    registry.query(
        "INSERT INTO signup.operations (id, tenant, kind, request) VALUES (%s, %s, %s, %s::jsonb)",
        id, tenant, kind, request,
    )  # fmt: skip
    # A worker that sees the row before its job makes the job itself.
    with suppress(AlreadyEnqueued), Database(registry.dsn(), size=1) as database, database.transaction() as connection:
        enqueue(connection, id, tenant)
    return id, tenant


def operation(registry: Registry, id: UUID) -> dict[str, Any]:
    (row,) = registry.query("SELECT * FROM signup.operations WHERE id = %s", id)
    return row


@pytest.fixture
def delays(registry: Registry) -> Iterator[None]:
    """Every time that a job is given back, the database notes how long it is to wait by its own clock."""
    registry.query("CREATE TABLE signup.delays (attempts int, seconds float)")
    registry.query("GRANT INSERT ON signup.delays TO kryonix_signup")
    registry.query("""
        CREATE FUNCTION signup.note_delay() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO signup.delays
            VALUES (NEW.attempts, extract(epoch FROM NEW.scheduled_at - clock_timestamp())); RETURN NEW; END $$
    """)
    registry.query("""
        CREATE TRIGGER note_delay AFTER UPDATE ON signup.procrastinate_jobs FOR EACH ROW
        WHEN (OLD.status = 'doing' AND NEW.status = 'todo') EXECUTE FUNCTION signup.note_delay()
    """)
    yield
    registry.query("DROP FUNCTION signup.note_delay() CASCADE")
    registry.query("DROP TABLE signup.delays")


@pytest.mark.parametrize("clock_s", [-600, 3600], ids=["ten minutes behind", "an hour ahead"])
def test_retry_delays_ignore_the_workers_clock(
    registry: Registry, tmp_path: Path, delays: None, clock_s: float
) -> None:
    id, tenant = asked(registry)
    with worker(registry.dsn(), tmp_path, clock_s=clock_s, failures=3) as working:
        eventually("it has succeeded", lambda: operation(registry, id)["status"] == "succeeded")
        assert working.attempts(tenant) == 4
    seconds = [row["seconds"] for row in registry.query("SELECT seconds FROM signup.delays ORDER BY attempts")]
    assert len(seconds) == 3
    for pause, found in zip((1, 2, 4), seconds, strict=True):
        assert found <= pause
    assert seconds[2] > 1, "the third pause is 4 s, less what it took to write it down"


@pytest.mark.parametrize("clock_s", [-600, 3600], ids=["ten minutes behind", "an hour ahead"])
def test_a_dead_workers_job_is_resumed_whatever_the_clock(registry: Registry, tmp_path: Path, clock_s: float) -> None:
    id, _ = asked(registry)
    registry.query("INSERT INTO signup.procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 hour')")
    registry.query(
        "UPDATE signup.procrastinate_jobs SET status = 'doing', "
        "worker_id = (SELECT max(id) FROM signup.procrastinate_workers)"
    )
    with worker(registry.dsn(), tmp_path, clock_s=clock_s):
        eventually("it has succeeded", lambda: operation(registry, id)["status"] == "succeeded")


def test_a_job_with_an_unknown_field_waits_for_a_newer_worker(registry: Registry, tmp_path: Path) -> None:
    id, tenant = asked(registry, request='{"gently": true}')
    known, _ = asked(registry)
    with worker(registry.dsn(), tmp_path) as older:
        eventually("it is left", lambda: operation(registry, id)["problem"])
        eventually("others are done", lambda: operation(registry, known)["status"] == "succeeded")
        eventually("it has come by again", lambda: older.said.count(f"operation {id} (suspend) waits") > 1)
        left = operation(registry, id)
        assert (left["status"], left["attempts"], left["revision"]) == ("queued", 0, 1)
        assert left["problem"]["type"] == "urn:kryonix:problem:waits-for-a-newer-worker"
        assert f"operation {id} (suspend) waits for a newer worker" in older.said
        assert "'gently'" in older.said
        assert older.attempts(tenant) == 0
        assert not registry.query("SELECT 1 FROM signup.outbox WHERE tenant = %s", tenant)
        # What a newer worker does: it knows the field.
        registry.query("UPDATE signup.operations SET request = '{}' WHERE id = %s", id)
        eventually("it is done", lambda: operation(registry, id)["status"] == "succeeded")


def test_jobs_of_a_newer_release_wait_and_are_reported_after_a_day(registry: Registry, tmp_path: Path) -> None:
    (check,) = registry.query(
        "SELECT conname, pg_get_constraintdef(oid) AS text FROM pg_constraint "
        "WHERE conrelid = 'signup.operations'::regclass AND contype = 'c' AND conname LIKE '%%kind%%'"
    )
    registry.query(f"ALTER TABLE signup.operations DROP CONSTRAINT {check['conname']}")
    registry.query("ALTER TABLE signup.operations ADD COLUMN since_then text DEFAULT 'x'")
    try:
        id, _ = asked(registry, kind="merge")
        with worker(registry.dsn(), tmp_path) as older:
            eventually("it is left", lambda: operation(registry, id)["problem"])
            assert operation(registry, id)["status"] == "queued"
            assert "operations of the kind 'merge'" in older.said
            registry.query("UPDATE signup.operations SET created_at = now() - interval '25 hours' WHERE id = %s", id)
            eventually("it has ended", lambda: operation(registry, id)["status"] == "failed")
            assert operation(registry, id)["attempts"] == 1
    finally:
        registry.query("DELETE FROM signup.operations WHERE kind = 'merge'")
        registry.query("ALTER TABLE signup.operations DROP COLUMN since_then")
        registry.query(f"ALTER TABLE signup.operations ADD CONSTRAINT {check['conname']} {check['text']}")


def test_a_worker_continues_after_its_database_was_frozen(registry: Registry, tmp_path: Path) -> None:
    first, _ = asked(registry)
    with worker(registry.dsn(), tmp_path) as working:
        eventually("it works", lambda: operation(registry, first)["status"] == "succeeded")
        second, _ = asked(registry)
        with registry.frozen():
            eventually("it has seen that nothing is answered", lambda: "can't be used" in working.said)
        third, _ = asked(registry)
        eventually(
            "both are done", lambda: all(operation(registry, id)["status"] == "succeeded" for id in (second, third))
        )
        assert working.process.poll() is None


@pytest.mark.parametrize("after_s", [0, 1, 5], ids=["at once", "in its start-up", "later"])
@pytest.mark.parametrize("frozen", [False, True], ids=["with a database", "with a frozen database"])
def test_sigterm_ends_a_worker_at_any_moment(registry: Registry, tmp_path: Path, frozen: bool, after_s: float) -> None:
    with worker(registry.dsn(), tmp_path, clock_s=0, ends=True) as working:
        if after_s > 1:
            eventually("it works", lambda: "working" in working.said)
        else:
            time.sleep(after_s)
        with registry.frozen() if frozen else nullcontext():
            working.process.terminate()
            working.process.wait(60)


def test_sigterm_ends_a_worker_that_waits_for_its_first_connection(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dsn = f"postgresql://nobody@127.0.0.1:{silent.getsockname()[1]}/none"
        with worker(dsn, tmp_path, ends=True) as working, ExitStack() as connecting:
            for _ in range(3):  # two can be those of the threads, the third is that of the event loop
                connecting.enter_context(silent.accept()[0])
            working.process.terminate()
            working.process.wait(60)
    assert "stopping without it" not in working.said, "it ends by itself"


def test_a_failed_operation_shows_addresses_to_administrators_only(
    base: str, registry: Registry, tmp_path: Path
) -> None:
    id, _ = asked(registry)
    with worker(registry.dsn(), tmp_path, failures=100) as working:
        eventually("an attempt has failed", lambda: operation(registry, id)["problem"])
        assert "10.9.8.7" in working.said
    for scope in SCOPES:
        with caller(base, registry.key(scope)) as http:
            answer = http.get(f"/v1/operations/{id}")
            assert answer.json()["problem"]["type"] == "urn:kryonix:problem:broker-unavailable"
            assert ("10.9.8.7" in answer.text) is (scope == "admin"), scope
