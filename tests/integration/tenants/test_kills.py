"""SIGKILL during an operation: repeating it converges, and nothing happens twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from kryonix.registry.connection import tenant_lock
from tests.support.lifecycle_env import LifecycleEnv, connects
from tests.support.project import ROOT
from tests.support.waiting import eventually

ID, VHOST = "mortal", "/cliente_mortal"


@pytest.fixture(scope="module")
def mortal(env: LifecycleEnv) -> Iterator[LifecycleEnv]:
    """A tenant that goes through one death after another, in the order of the tests."""
    with env.leaving_nothing():
        env.create(ID, "crm", "portal")
        yield env


def killed(env: LifecycleEnv, moment: str, operation: str, **given: Any) -> None:
    """Run an operation that dies at a moment of its own."""
    command = [sys.executable, "-m", "tests.support.killed", str(env.project.folder)]
    command += [env.project.stack, moment, operation, ID, json.dumps(given)]
    result = subprocess.run(command, cwd=ROOT, env=env.project.env, capture_output=True, timeout=300, check=False)
    assert result.returncode == -signal.SIGKILL, result.stderr.decode()

    def free() -> bool:
        with tenant_lock(str(env.broker.outputs["registry_dsn"]), ID) as alone:
            return alone is not None

    eventually("the server has noticed that the process is dead, and frees the tenant", free)


def test_repeating_a_killed_change_finishes_it(mortal: LifecycleEnv) -> None:
    """Slow: the first test here deploys the tenant that all of them change."""
    wanted: dict[str, Any] = {"modules": ["crm", "financeiro"], "plan": "pro"}
    killed(mortal, "1.20", "change", **wanted)
    cut_off = mortal.lifecycle.state(ID)
    assert (list(cut_off.modules), cut_off.converged) == (wanted["modules"], False)
    mortal.lifecycle.change(ID, **wanted)
    assert mortal.lifecycle.state(ID).converged
    found = {queue["name"].split(".")[1] for queue in mortal.broker.get("queues", VHOST)}
    assert found - {"unrouted"} == set(wanted["modules"])
    assert mortal.lifecycle.converge(ID).changed is False


@pytest.mark.parametrize(("moment", "user"), [("1.20", "kryonix_mortal.2"), ("1.end", "kryonix_mortal.3")])
def test_a_repeated_rotation_creates_one_user(mortal: LifecycleEnv, moment: str, user: str) -> None:
    killed(mortal, moment, "rotate")
    fresh = mortal.lifecycle.rotate(ID)
    assert fresh.username == user
    assert connects(fresh)
    users = {entry["name"] for entry in mortal.broker.get("users") if entry["name"].startswith("kryonix_mortal")}
    applications = {name for name in users if not name.endswith(".stats")}
    assert len(applications) == 2, "the new one, and the one whose overlap lasts"
    assert user in applications
    assert users == applications | {f"{name}.stats" for name in applications}


def test_an_offboarding_keeps_one_export_and_can_be_resumed(mortal: LifecycleEnv) -> None:
    killed(mortal, "1.end", "offboard")
    state = mortal.lifecycle.state(ID)
    assert (state.status, state.converged) == ("offboarding", False)
    assert mortal.lifecycle.offboard(ID) == state.remove_after, "run again, the grace begins anew"
    assert len(mortal.lifecycle.final_exports(ID)) == 1
    assert mortal.lifecycle.state(ID).converged
    mortal.lifecycle.resume(ID)
    assert mortal.broker.vhost_limits(VHOST)["max-connections"] == 50


def test_a_killed_removal_continues_from_any_point(mortal: LifecycleEnv) -> None:
    mortal.lifecycle.offboard(ID)
    killed(mortal, "1.10", "remove", force=True)  # while what protects the tenant is lifted
    assert mortal.lifecycle.state(ID).status == "offboarding"
    assert mortal.broker.has("vhosts", VHOST)
    killed(mortal, "2.3", "remove", force=True)  # while it is deleted
    assert mortal.lifecycle.state(ID).status == "removed"
    assert mortal.lifecycle.due() == [ID], "a removal that was cut off is due"
    killed(mortal, "1.end", "settle")  # once it is deleted, before the registry says so
    mortal.lifecycle.settle(ID)
    assert mortal.lifecycle.due() == []
    assert not mortal.broker.has("vhosts", VHOST)
    assert not [u for u in mortal.broker.get("users") if u["name"].startswith("kryonix_mortal")]
    assert mortal.query(f"SELECT status FROM tenants.rabbitmq_configurations WHERE cliente_id = '{ID}'") == [
        ("removido",)
    ]
    assert mortal.query(f"SELECT 1 FROM tenants.rabbitmq_credentials WHERE cliente_id = '{ID}'") == []
