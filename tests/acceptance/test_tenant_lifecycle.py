"""`kryonix tenant`: the life of one customer with a stack of its own, as an operator leads it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aio_pika
import psycopg
import pytest

from kryonix.lifecycle.credentials import Credentials
from tests.acceptance.broker import LiveBroker
from tests.harness import Project, Result

ID, VHOST = "life", "/cliente_life"
LEADS = "cliente_life.crm.leads.create"


class Operator:
    """The command, on the platform's stack."""

    def __init__(self, platform: Project, broker: LiveBroker) -> None:
        self.platform, self.broker = platform, broker

    def arguments(self, *command: str) -> list[str]:
        return ["tenant", *command, "--stack", self.platform.stack, "--engine", "local"]

    def run(self, *command: str) -> Result:
        return self.platform.kryonix(*self.arguments(*command))

    def must(self, *command: str) -> Any:
        result = self.run(*command, "--json")
        assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
        return json.loads(result.stdout)

    def refused(self, status: int, *command: str) -> str:
        result = self.run(*command)
        assert result.returncode == status, f"{command}\n{result.stdout}\n{result.stderr}"
        assert "Traceback" not in result.stderr
        return result.stderr

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.broker.outputs["registry_dsn"]) as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture(scope="module")
def operator(platform: Project, broker: LiveBroker) -> Iterator[Operator]:
    made = Operator(platform, broker)
    yield made
    for state in made.must("list"):
        if state["id"].startswith(ID) and state["status"] != "removed":
            made.must("offboard", state["id"], "--grace-days", "0")
            made.must("remove", state["id"], "--yes")


@pytest.fixture(scope="module")
def credentials(operator: Operator) -> Credentials:
    """Those of a tenant that is made by the first test that asks for them."""
    return Credentials.of(operator.must("create", ID, "--modules", "crm,portal", "--plan", "basic"))


async def _connects(uri: str) -> bool:
    try:
        await (await aio_pika.connect(uri, timeout=10)).close()
    except aio_pika.exceptions.AMQPError:
        return False
    return True


def connects(credentials: Credentials) -> bool:
    return asyncio.run(_connects(credentials.amqp_uri))


def test_a_tenant_is_made_with_credentials_that_work_and_are_in_no_file(
    operator: Operator, credentials: Credentials
) -> None:
    assert (credentials.vhost, credentials.username) == (VHOST, "kryonix_life")
    assert connects(credentials)
    (row,) = [state for state in operator.must("list") if state["id"] == ID]
    assert (row["status"], row["plan"], row["converged"]) == ("active", "basic", True)
    kept = operator.query("SELECT password_hash FROM tenants.rabbitmq_credentials WHERE cliente_id = 'life'")
    assert credentials.password not in str(kept)
    state = operator.platform.folder / ".kryonix" / "stacks" / "tenant-life" / "checkpoint.json"
    assert credentials.password not in state.read_text()
    assert "is there already" in operator.refused(2, "create", ID, "--modules", "crm", "--plan", "basic")


def test_what_can_not_be_is_refused_and_changes_nothing(operator: Operator, credentials: Credentials) -> None:
    everything = "crm,whatsapp,agendamento,financeiro,marketing,analytics,portal,whitelabel"
    said = operator.refused(2, "change", ID, "--modules", everything)
    assert "The smallest plan that fits is 'pro'; or remove modules: for the plan 'basic'" in said
    assert "did you mean 'crm'" in operator.refused(2, "create", "life-two", "--modules", "crn", "--plan", "basic")
    assert "unknown plan" in operator.refused(2, "change", ID, "--plan", "gold")
    assert "unknown cell" in operator.refused(
        2, "create", "life-two", "--modules", "crm", "--plan", "basic", "--cell", "moon"
    )
    for id in ("../etc", "a'; DROP TABLE x; --", "lífe-x", "nobody", "x" * 10_000, "%2F", "a\nb"):
        assert "there is no tenant" in operator.refused(2, "suspend", id)
    assert connects(credentials)
    assert not operator.broker.has("vhosts", "/cliente_life-two")


def test_a_change_keeps_messages_and_refuses_to_lose_them(operator: Operator, credentials: Credentials) -> None:
    operator.broker.publish(VHOST, LEADS, 2)
    changed = operator.must("change", ID, "--modules", "crm,portal,financeiro", "--plan", "pro")
    assert (changed["plan"], changed["modules"]) == ("pro", ["crm", "portal", "financeiro"])
    assert operator.broker.has("queues", VHOST, "cliente_life.financeiro.faturas.create")
    said = operator.refused(2, "change", ID, "--modules", "portal")
    assert LEADS in said
    (row,) = [state for state in operator.must("list") if state["id"] == ID]
    assert row["modules"] == ["crm", "portal", "financeiro"]
    operator.must("change", ID, "--modules", "portal", "--allow-delete", LEADS)
    assert not operator.broker.has("queues", VHOST, LEADS)
    operator.must("change", ID, "--modules", "crm,portal")
    assert operator.broker.take(VHOST, LEADS, 10) == 0


def test_a_suspended_tenant_is_cut_off_and_loses_nothing(operator: Operator, credentials: Credentials) -> None:
    operator.broker.publish(VHOST, LEADS, 3)

    async def is_cut_off() -> bool:
        connection = await aio_pika.connect(credentials.amqp_uri)
        await asyncio.to_thread(operator.must, "suspend", ID)
        for _ in range(50):
            if connection.is_closed:
                return True
            await asyncio.sleep(0.1)
        return False

    assert asyncio.run(is_cut_off())
    assert not connects(credentials)
    registry = operator.query("SELECT status FROM tenants.rabbitmq_configurations WHERE cliente_id = 'life'")
    assert registry == [("suspenso",)]
    operator.must("resume", ID)
    assert connects(credentials)
    assert operator.broker.take(VHOST, LEADS, 10) == 3


def test_rotated_credentials_overlap_and_the_old_ones_end(operator: Operator, credentials: Credentials) -> None:
    fresh = Credentials.of(operator.must("rotate", ID, "--overlap-hours", "0.002"))  # 7 s
    assert fresh.username == "kryonix_life.2"
    assert connects(fresh)
    assert connects(credentials), "the old credentials ended before their overlap"
    time.sleep(8)
    assert operator.must("settle") == {"settled": [ID]}
    assert connects(fresh)
    assert not connects(credentials)
    current = operator.query("SELECT username FROM tenants.rabbitmq_credentials WHERE cliente_id = 'life'")
    assert current == [("kryonix_life.2",)]


def test_two_operations_on_one_tenant_do_not_meet(operator: Operator, credentials: Credentials) -> None:
    with ThreadPoolExecutor(4) as pool:
        plans = ("basic", "pro", "enterprise", "pro")
        results = list(pool.map(lambda plan: operator.run("change", ID, "--plan", plan, "--json"), plans))
    assert {result.returncode for result in results} <= {0, 3}
    assert any(result.returncode == 0 for result in results)
    for result in results:
        assert result.returncode == 0 or "another operation" in result.stderr
    (row,) = [state for state in operator.must("list") if state["id"] == ID]
    assert row["converged"]


def test_a_creation_that_is_killed_is_gone_on_with(operator: Operator) -> None:
    command = operator.platform.command(
        *operator.arguments("create", "life-killed", "--modules", "crm", "--plan", "basic", "--json")
    )
    for after_s in (2.5, 3.5, 4.5):
        process = subprocess.Popen(
            command, cwd=operator.platform.folder, env=operator.platform.env, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(after_s)
        process.kill()
        process.wait()
    deadline = time.monotonic() + 30
    while (made := operator.run("create", "life-killed", "--modules", "crm", "--plan", "basic", "--json")).returncode:
        # The process that ran the stack ends by itself once it is not needed; until then it holds the stack's lock.
        assert made.returncode == 3 and time.monotonic() < deadline, made.stderr  # noqa: PT018  one condition
        time.sleep(1)
    assert connects(Credentials.of(json.loads(made.stdout)))


def test_an_offboarded_tenant_can_come_back_and_a_removed_one_leaves_its_history(
    operator: Operator,
) -> None:
    current = Credentials.of(operator.must("rotate", ID, "--overlap-hours", "0"))
    left = operator.must("offboard", ID, "--grace-days", "1")
    assert left["status"] == "offboarding"
    assert not connects(current)
    assert "may come back until" in operator.refused(2, "remove", ID, "--yes")
    assert "not confirmed" in operator.refused(2, "remove", ID, "--force")
    operator.must("resume", ID)
    assert connects(current)

    operator.broker.publish(VHOST, LEADS)
    operator.must("offboard", ID, "--grace-days", "1")
    removed = operator.must("remove", ID, "--force", "--yes")
    assert removed["status"] == "removed"
    assert not operator.broker.has("vhosts", VHOST)
    assert not operator.broker.has("users", current.username)
    history = operator.query("SELECT status FROM tenants.rabbitmq_configurations WHERE cliente_id = 'life'")
    assert history == [("removido",)]
    assert operator.query("SELECT 1 FROM tenants.rabbitmq_credentials WHERE cliente_id = 'life'") == []
    (export,) = operator.query(
        "SELECT definitions FROM tenants.final_exports WHERE cliente_id = 'life' ORDER BY exported_at DESC LIMIT 1"
    )
    assert LEADS in {queue["name"] for queue in export[0]["queues"]}
