"""Runs killed at any moment: the state stays readable and the next run converges."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
import pytest

from kryonix.engines.local import LocalStack
from tests.acceptance.conftest import Beside, Planned, changed
from tests.support.live_broker import LiveBroker
from tests.support.project import Project, tenant
from tests.support.waiting import eventually

KILLS = 12
SMALL, LARGE = ("portal",), ("portal", "crm", "financeiro")


@dataclass
class Killer:
    """Kills runs of one stack at moments that, taken together, cover the whole of a run."""

    stack: Project
    moments: random.Random

    def run(self, operation: str, part: float, duration: float) -> bool:
        """Kill a run at some part of its duration, counted from where its work begins; whether it was still going."""
        process = self.stack.start(operation)
        eventually("the run's work begins", lambda: self.stack.journal or process.poll() is not None)
        time.sleep(part * duration)
        going = process.poll() is None
        process.kill()
        process.communicate()
        deployment = LocalStack(self.stack.folder, self.stack.stack).export()  # what `kryonix export` prints
        assert deployment["version"] == 3
        return going

    def parts(self, count: int) -> Iterator[float]:
        """Moments spread evenly, each moved by chance, in any order."""
        found = [(index + self.moments.random()) / count for index in range(count)]
        self.moments.shuffle(found)
        yield from found


@pytest.fixture
def seed(record_property: Any) -> int:
    """A new one each time; a failure tells it."""
    value = random.SystemRandom().randrange(10**6)
    print(f"the moments are those of Random({value})")
    return value


def work_seconds(stack: Project, operation: str) -> float:
    """How long an operation works, its start not counted."""
    return max(0.2, float(stack.must(operation)["seconds"]) - 0.5)


def assert_whole(stack: Project, broker: LiveBroker, planned: dict[str, Any]) -> None:
    broker.assert_is(planned)
    found = stack.outputs()["tenants"][planned["id"]]
    # The user for figures has the same password, and may ask by HTTP.
    login = (f"{found['username']}.stats", found["password"])
    whoami = httpx.get(f"{broker.outputs['management_url']}/api/whoami", auth=login, timeout=30)
    assert whoami.status_code == httpx.codes.OK, "the password in the outputs is not the user's"
    assert changed(stack.must("preview")) == []


def status_in_registry(broker: LiveBroker, id: str) -> str:
    query = "SELECT status FROM tenants.rabbitmq_configurations WHERE cliente_id = %s"
    with psycopg.connect(broker.outputs["registry_dsn"]) as connection:
        row = connection.execute(query, (id,)).fetchone()
    return str(row[0]) if row else "absent"


def test_up_survives_a_kill_at_any_moment(beside: Beside, planned: Planned, broker: LiveBroker, seed: int) -> None:
    """Slow: twelve runs are killed, so that no part of a run is left out."""
    stack = beside("killed-up", *LARGE)
    killer = Killer(stack, random.Random(seed))
    duration = work_seconds(stack, "up")
    large = planned(stack)
    stack.must("destroy")
    killed = 0
    for index, part in enumerate(killer.parts(KILLS)):
        modules = LARGE if index % 2 == 0 else SMALL
        stack.configure(tenant=tenant("killed-up", *modules, plan="basic"))
        hit = killer.run("up", part, duration if modules == LARGE else duration / 2)
        killed += hit
        if not hit:  # the first run, which was measured, was slower
            duration *= 0.7
        if index % 4 == 3:
            stack.must("up")
            assert_whole(stack, broker, planned(stack))
    assert killed > KILLS / 3, "hardly any run was still going when it was killed"
    stack.must("destroy")
    broker.assert_is_gone(large)
    assert status_in_registry(broker, "killed-up") == "removido"
    assert json.loads(stack.run("export").stdout)["deployment"].get("resources", []) == []


def test_destroy_survives_a_kill_at_any_moment(beside: Beside, planned: Planned, broker: LiveBroker, seed: int) -> None:
    """Slow: twelve runs are killed, and each destroys a tenant that is deployed again before it."""
    stack = beside("killed-down", *SMALL)
    # Accepted, so that a destroy is work all through, and not for the most part the wait for the queues' last counts.
    stack.configure(allowDelete=["cliente_killed-down.*"])
    killer = Killer(stack, random.Random(seed))
    stack.must("up")
    expected = planned(stack)
    duration = work_seconds(stack, "destroy")
    for index, part in enumerate(killer.parts(KILLS)):
        stack.must("up")
        killer.run("destroy", part, duration)
        if index % 3 == 1:
            stack.must("destroy")
            broker.assert_is_gone(expected)
    stack.must("up")
    assert_whole(stack, broker, expected)
    assert status_in_registry(broker, "killed-down") == "ativo"
    stack.must("destroy")
    broker.assert_is_gone(expected)
    assert status_in_registry(broker, "killed-down") == "removido"


def test_a_killed_run_leaves_no_lock(beside: Beside) -> None:
    stack = beside("unlocked", *SMALL)
    stack.kill("up", lambda: stack.journal)
    stack.must("up")
    stack.must("destroy")
