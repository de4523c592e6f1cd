"""A tenant's lifecycle with the Automation API, on a platform deployed by the real CLI."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aio_pika
import pytest

from kryonix.registry.connection import connect
from kryonix.registry.desired_states import DesiredState, put_desired_state
from tests.conftest import ALL_MODULES
from tests.support.live_broker import LiveBroker
from tests.support.project import Project, Result
from tests.support.signup_service import Signup
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(
    shutil.which("pulumi") is None, reason="the Automation API runs the real CLI, and there is no `pulumi` on PATH"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A platform made by the CLI, with its state in a folder."""
    folder = tmp_path_factory.mktemp("automation")
    project = Project.platform(folder / "project")
    project.use_cli(folder / "backend")
    with project.running("pulumi"):
        yield project


@pytest.fixture(scope="module")
def broker(made: Project) -> Iterator[LiveBroker]:
    with LiveBroker(made.must("outputs", "--show-secrets", engine="pulumi")) as found:
        yield found


def run(project: Project, *command: str) -> Result:
    return project.kryonix(*command, "--stack", project.stack, "--engine", "pulumi", timeout=600)


def must(project: Project, *command: str) -> Any:
    result = run(project, *command, "--json")
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return json.loads(result.stdout)


@pytest.fixture
def signup(made: Project, tmp_path: Path) -> Iterator[Signup]:
    service = Signup(made, tmp_path, engine="pulumi")
    yield service
    service.end()


def test_signup_with_the_cli_survives_a_killed_worker(signup: Signup, broker: LiveBroker) -> None:
    full = {"id": "asked", "modules": list(ALL_MODULES), "plan": "enterprise"}
    operation = signup.caller.taken("POST", "/v1/tenants", full)
    eventually("the worker has begun", lambda: broker.has("vhosts", "/cliente_asked"))
    signup.worker.kill()
    signup.worker = signup.start_worker()
    ended = signup.caller.ended(operation, 300)
    assert (ended["status"], ended["attempts"] >= 2) == ("succeeded", True), ended
    assert len(broker.get("queues", "/cliente_asked", disable_stats="true")) == 87
    uri = signup.caller.credentials(operation).amqp_uri
    assert asyncio.run(connects(uri))
    signup.caller.done("DELETE", "/v1/tenants/asked?now=true")
    assert not broker.has("vhosts", "/cliente_asked")


async def connects(uri: str) -> bool:
    await (await aio_pika.connect(uri, timeout=30)).close()
    return True


def test_a_tenants_lifecycle_works_with_the_cli(made: Project, broker: LiveBroker) -> None:
    first = must(made, "tenant", "create", "auto", "--modules", "crm,portal", "--plan", "basic")
    assert first["username"] == "kryonix_auto"
    changed = must(made, "tenant", "change", "auto", "--plan", "pro")
    assert (changed["plan"], changed["converged"]) == ("pro", True)
    broker.publish("/cliente_auto", "cliente_auto.crm.leads.create", 2)
    refused = run(made, "tenant", "change", "auto", "--modules", "portal")
    assert refused.returncode == 2, refused.stderr
    assert "2 messages in cliente_auto.crm.leads.create" in refused.stderr
    policy = broker.get("policies", "/cliente_auto", "modulo-crm")
    broker.put("policies", "/cliente_auto", "modulo-crm", json={**policy, "definition": {"message-ttl": 1000}})
    drift = run(made, "fleet", "drift", "--expect-no-changes", "--json")
    assert drift.returncode == 4, drift.stderr
    (found,) = json.loads(drift.stdout)["tenants"]
    assert [step["name"] for step in found["found"]] == ["auto/modulo-crm"]
    assert must(made, "tenant", "converge", "auto")["converged"]
    second = must(made, "tenant", "rotate", "auto")
    assert second["username"] == "kryonix_auto.2"
    assert broker.has("users", "kryonix_auto")
    suspended = must(made, "tenant", "suspend", "auto")
    assert suspended["status"] == "suspended"
    assert broker.vhost_limits("/cliente_auto")["max-connections"] == 0
    must(made, "tenant", "offboard", "auto", "--grace-days", "0")
    assert must(made, "tenant", "settle") == {"settled": ["auto"]}
    assert not broker.has("vhosts", "/cliente_auto")
    assert {each["id"]: each["status"] for each in must(made, "tenant", "list")}["auto"] == "removed"
    assert not list(made.folder.glob("Pulumi.tenant-*")), "a tenant's config is written into its workspace only"


def test_a_rollout_with_the_cli_runs_the_changed_tenants_only(made: Project, broker: LiveBroker) -> None:
    for id in ("still", "moved"):
        must(made, "tenant", "create", id, "--modules", "crm", "--plan", "basic")
    assert rolled_out(made) == {"moved": "unchanged", "still": "unchanged"}
    with connect(str(broker.outputs["registry_dsn"])) as connection:
        put_desired_state(connection, DesiredState(cliente_id="moved", modules=("crm",), plan="pro"))
    assert rolled_out(made) == {"moved": "done", "still": "unchanged"}
    assert broker.vhost_limits("/cliente_moved")["max-connections"] == 50
    assert rolled_out(made) == {"moved": "unchanged", "still": "unchanged"}
    assert rolled_out(made, "--all") == {"moved": "done", "still": "done"}
    for id in ("still", "moved"):
        must(made, "tenant", "offboard", id, "--grace-days", "0")
    assert must(made, "tenant", "settle") == {"settled": ["moved", "still"]}


def rolled_out(project: Project, *arguments: str) -> dict[str, str]:
    report = must(project, "fleet", "rollout", "--yes", *arguments)
    return {tenant["cliente_id"]: tenant["status"] for tenant in report["tenants"]}
