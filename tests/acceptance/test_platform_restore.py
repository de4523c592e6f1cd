"""A platform that lost everything but its project comes back from its bundle; what is there is never changed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import docker
import httpx
import pytest

from kryonix.backup.archive import Archive
from kryonix.backup.encryption import Identities, Recipients, new_identity
from kryonix.backup.errors import BackupError
from kryonix.backup.manifest import Facts
from kryonix.backup.names import BundleName
from kryonix.backup.platform_objects import left_out, missing
from kryonix.backup.platform_reading import read_platform
from kryonix.backup.platform_restoring import PlatformPlan, PlatformRestore, PlatformRestored
from kryonix.backup.platform_snapshot import PlatformSnapshot
from kryonix.backup.store import BundleStore
from kryonix.engines.choice import engine_for
from kryonix.engines.engine import StackSpec
from kryonix.errors import InvalidChoice
from kryonix.rabbitmq.broker import Broker
from kryonix.registry.connection import connect
from kryonix.signup.errors import InvalidKey
from kryonix.signup.keys import authenticate, create_key, revoke_key
from kryonix.signup.operations import Request, begin, end, fetch, fetch_newest, insert
from tests.acceptance.conftest import ENGINES
from tests.support.bundles import AT
from tests.support.management import ManagementApi
from tests.support.project import Project, tenant
from tests.support.waiting import eventually

PASSWORD = "an operator's"
LATER = (
    "INSERT INTO tenants.desired_states (cliente_id, modules, plan, status, cell) "
    "VALUES ('later', '[]', 'basic', 'removed', 'main')"
)


@dataclass(frozen=True)
class Lost:
    """What a platform was, how its loss was seen, and the platform that was made of its bundle."""

    project: Project
    engine_name: str
    restore: PlatformRestore
    snapshot: PlatformSnapshot
    keys: list[str]
    plan: PlatformPlan
    restored: PlatformRestored

    @property
    def outputs(self) -> dict[str, Any]:
        return self.restore.engine.outputs(StackSpec(name=self.stack))

    def read(self) -> PlatformSnapshot:
        with Broker.of(self.outputs) as broker:
            return read_platform(broker, str(self.outputs["registry_dsn"]), self.restore.engine, self.stack)[0]

    @property
    def stack(self) -> str:
        return self.project.stack


def by_hand(broker: Broker) -> None:
    """Add what operators add: a vhost of their own with a queue, a user, and an administrator."""
    broker.call("PUT", "users", "root", json={"password": PASSWORD, "tags": "administrator"})
    broker.call("PUT", "vhosts", "/extra", json={"description": "by hand"})
    broker.call("PUT", "users", "operator", json={"password": PASSWORD, "tags": "management"})
    broker.call("PUT", "permissions", "/extra", "operator", json={"configure": "", "write": ".*", "read": ".*"})
    broker.call("PUT", "queues", "/extra", "work", json={"durable": True, "arguments": {"x-queue-type": "quorum"}})


def sign_up(dsn: str) -> list[str]:
    """Have two keys, an operation that ended, and one that runs."""
    with connect(dsn) as connection:
        keys = [create_key(connection, name, "write") for name in ("used", "leaked")]
        done = insert(connection, Request(tenant="done", kind="suspend"))
        running = insert(connection, Request(tenant="running", kind="rotate"))
        assert done is not None
        assert running is not None
        for operation in (done, running):
            begin(connection, operation.id)
        end(connection, done.id, "succeeded", result={"rotated": True})
        return keys


def lose(project: Project) -> None:
    """Remove containers and volumes, and the state of every stack."""
    lose_state(project)
    for container in project.containers():
        container.remove(force=True, v=True)
    client = docker.from_env()
    for volume in client.volumes.list(filters={"name": f"kryonix-{project.stack}-"}):
        volume.remove()
    client.close()


def lose_state(project: Project) -> None:
    shutil.rmtree(project.folder / ".kryonix", ignore_errors=True)
    if backend := project.env.get("PULUMI_BACKEND_URL"):
        shutil.rmtree(f"{backend.removeprefix('file://')}/.pulumi")


def through_a_bundle(project: Project, snapshot: PlatformSnapshot, facts: Facts) -> PlatformSnapshot:
    """Write a bundle to a folder beside the project, with its key, and return what it holds."""
    recipients = Recipients.parse(new_identity(project.folder / "identity"))
    store = BundleStore.open(str(project.folder / "bundles"))
    archive = Archive(store, project.stack)
    stored = archive.write("platform", project.stack, snapshot.members(), facts, AT, recipients)
    name = BundleName.parse(stored.name)
    assert name is not None
    return PlatformSnapshot.of(archive.read(name, Identities.read([project.folder / "identity"])))


def kill_a_restore(project: Project) -> None:
    """Begin to restore, and kill that once a container is there, with nothing in it yet."""
    target = ("platform", "--from", str(project.folder / "bundles"), "--identity", str(project.folder / "identity"))
    command = ("backup", "restore", *target, "--stack", project.stack, "--engine", "local", "--yes")
    with subprocess.Popen(
        project.command(*command), cwd=project.folder, env=project.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        eventually("a container is there", lambda: project.containers() or process.poll() is not None)
        process.kill()
    assert process.returncode == -signal.SIGKILL


@pytest.fixture(scope="module", params=ENGINES)
def lost(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lost]:
    folder = tmp_path_factory.mktemp("lost")
    project = Project.platform(folder / "project", tenant("listed", "crm", plan="basic"))
    if request.param == "pulumi":
        project.use_cli(folder / "backend")
    with project.running(request.param), patch.dict(os.environ, project.env, clear=True):
        engine = engine_for(request.param, project.folder)
        outputs = engine.outputs(StackSpec(name=project.stack))
        keys = sign_up(str(outputs["signup_dsn"]))
        with Broker.of(outputs) as broker:
            by_hand(broker)
            found = read_platform(broker, str(outputs["registry_dsn"]), engine, project.stack)
        snapshot = through_a_bundle(project, *found)
        lose(project)
        restore = PlatformRestore(engine, project.stack)
        plan = restore.plan(snapshot)
        if request.param == "local":  # the CLI's lock outlives a killed run, until `pulumi cancel`
            kill_a_restore(project)
        yield Lost(project, request.param, restore, snapshot, keys, plan, restore.run(plan))


def test_a_plan_shows_that_everything_is_lost(lost: Lost) -> None:
    plan = lost.plan
    assert (plan.state, plan.services, plan.unfinished, plan.others) == ("restored", "unknown", 1, [])
    assert plan.rows["signup.api_keys"] == 2
    assert "/extra" in plan.objects["vhosts"]
    assert PASSWORD not in repr(plan)


def test_the_next_preview_shows_no_change(lost: Lost) -> None:
    assert lost.project.must("preview", engine=lost.engine_name)["steps"] == []


def test_what_the_stack_does_not_make_was_added(lost: Lost) -> None:
    assert lost.restored.objects == {"vhosts": 1, "users": 1, "permissions": 2, "queues": 1}
    now = lost.read()
    assert missing(lost.snapshot.objects, now.objects) == {}
    assert lost.restored.left_out == left_out(lost.snapshot.objects, now.objects) == ["user root"]
    assert now.objects["queues"] == lost.snapshot.objects["queues"]


def test_operators_come_in_with_their_old_password(lost: Lost) -> None:
    with ManagementApi(lost.outputs["management_url"], "operator", PASSWORD) as api:
        assert api.get("whoami")["tags"] == ["management"]


def test_every_row_is_back(lost: Lost) -> None:
    changing = {"created_at", "updated_at", "password_hash"}
    was, now = (
        {name: [{k: v for k, v in row.items() if k not in changing} for row in rows] for name, rows in each.items()}
        for each in (lost.snapshot.rows, lost.read().rows)
    )
    del was["signup.operations"], now["signup.operations"]
    assert now == was
    assert len(was["tenants.rabbitmq_credentials"]) == 1


def test_an_interrupted_operation_has_failed_and_runs_no_second_time(lost: Lost) -> None:
    with connect(str(lost.outputs["signup_dsn"])) as connection:
        (done,), (running,) = (fetch_newest(connection, name, 5) for name in ("done", "running"))
        assert (done.status, done.result) == ("succeeded", {"rotated": True})
        assert (running.status, running.ended) == ("failed", True)
        assert running.problem is not None
        assert running.problem["type"] == "urn:kryonix:problem:restored"
        assert begin(connection, running.id) is None
        assert fetch(connection, running.id).status == "failed"
        assert connection.execute("SELECT count(*) AS jobs FROM signup.procrastinate_jobs").fetchone() == {"jobs": 0}
        assert insert(connection, Request(tenant="running", kind="rotate")) is not None
        connection.rollback()


def test_a_second_restore_changes_nothing_that_is_there(lost: Lost) -> None:
    """Not the revocation of a key, a user's new password, nor a tenant that came later."""
    outputs = lost.outputs
    used, leaked = lost.keys
    with connect(str(outputs["signup_dsn"])) as connection:
        assert authenticate(connection, used).scope == "write"
        revoke_key(connection, authenticate(connection, leaked).key_id)
    with Broker.of(outputs) as broker:
        broker.set_password("operator", "a newer one")
    with connect(str(outputs["registry_dsn"])) as connection:
        connection.execute(LATER)
    plan = lost.restore.plan(lost.snapshot)
    assert (plan.state, plan.services, plan.rows, plan.objects) == ("kept", "running", {}, {})
    assert plan.others == ["later"]
    with pytest.raises(BackupError, match=r"later\. They were not shown"):
        lost.restore.run(lost.plan)
    restored = lost.restore.run(plan)
    assert (restored.rows, restored.objects) == ({}, {})
    with connect(str(outputs["signup_dsn"])) as connection, pytest.raises(InvalidKey):
        authenticate(connection, leaked)
    with ManagementApi(outputs["management_url"], "operator", PASSWORD) as api, pytest.raises(httpx.HTTPStatusError):
        api.get("whoami")
    with connect(str(outputs["registry_dsn"])) as connection:
        assert connection.execute("DELETE FROM tenants.desired_states WHERE cliente_id = 'later'").rowcount == 1


def test_what_is_missing_only_is_added(lost: Lost) -> None:
    with Broker.of(lost.outputs) as broker:
        broker.delete_all([("queues", "/extra", "work")])
    assert lost.restore.plan(lost.snapshot).objects == {"queues": ["work /extra"]}
    assert lost.restore.run(lost.restore.plan(lost.snapshot)).objects == {"queues": 1}


def test_a_lost_state_comes_back_beside_running_services(lost: Lost) -> None:
    """The bundle knows the containers of before, which were made again since then."""
    before = {container.id for container in lost.project.containers()}
    lose_state(lost.project)
    restored = lost.restore.run(lost.restore.plan(lost.snapshot))
    assert (restored.rows, restored.objects) == ({}, {})
    assert lost.project.must("preview", engine=lost.engine_name)["steps"] == []
    assert {container.id for container in lost.project.containers()} == before


def test_another_platforms_bundle_is_refused(lost: Lost) -> None:
    with pytest.raises(InvalidChoice, match=f"of the platform '{lost.stack}', not of 'other'"):
        PlatformRestore(lost.restore.engine, "other").plan(lost.snapshot)
