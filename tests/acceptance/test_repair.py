"""Runs without changes, and runs that repair manual changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.acceptance.conftest import Beside, Planned, changed
from tests.support.live_broker import LiveBroker
from tests.support.project import Project

VHOST, USER, QUEUE = "/cliente_mended", "kryonix_mended", "cliente_mended.crm.leads.create"


def test_a_second_up_reports_no_changes(platform: Project) -> None:
    state = platform.folder / ".kryonix" / "stacks" / platform.stack / "checkpoint.json"
    before = json.loads(state.read_text())["deployment"]["resources"]
    result = platform.run("up")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("No changes. ")
    assert changed(platform.must("preview")) == []
    assert changed(platform.must("refresh")) == []
    assert json.loads(state.read_text())["deployment"]["resources"] == before


def test_a_preview_changes_nothing(beside: Beside, broker: LiveBroker) -> None:
    stack = beside("looked-at", "crm")
    vhosts = broker.vhosts()
    summary = stack.must("preview")
    assert summary["changes"]["create"] > 50
    assert broker.vhosts() == vhosts
    assert not broker.has("users", "kryonix_looked-at")
    assert not (stack.folder / ".kryonix" / "stacks" / stack.stack).exists()


def test_destroy_removes_everything_and_a_second_one_nothing(
    beside: Beside, planned: Planned, broker: LiveBroker
) -> None:
    stack = beside("passing", "crm")
    stack.must("up")
    vhosts = broker.vhosts()
    stack.must("destroy")
    broker.assert_is_gone(planned(stack))
    assert broker.vhosts() == vhosts - {"/cliente_passing"}
    again = stack.run("destroy")
    assert again.returncode == 0
    assert again.stdout == f"Nothing is deployed in stack '{stack.stack}'.\n"
    assert stack.outputs() == {}
    assert "nothing is deployed" in stack.run("status").stderr


def queue_deleted(broker: LiveBroker) -> None:
    broker.delete("queues", VHOST, QUEUE)


def binding_removed(broker: LiveBroker) -> None:
    (binding,) = (
        b for b in broker.get("bindings", VHOST, "e", "cliente_mended", "q", "cliente_mended.crm.leads.update")
    )
    broker.delete("bindings", VHOST, "e", binding["source"], "q", binding["destination"], binding["properties_key"])


def policy_changed(broker: LiveBroker) -> None:
    policy = broker.get("policies", VHOST, "modulo-crm")
    policy["definition"]["message-ttl"] = 1000
    broker.put("policies", VHOST, "modulo-crm", json=policy)


def operator_policy_removed(broker: LiveBroker) -> None:
    broker.delete("operator-policies", VHOST, "autoscaling-mended")


def user_limit_removed(broker: LiveBroker) -> None:
    broker.delete("user-limits", USER, "max-channels")


def vhost_limit_changed(broker: LiveBroker) -> None:
    broker.put("vhost-limits", VHOST, "max-connections", json={"value": 1000})


def permission_widened(broker: LiveBroker) -> None:
    broker.put("permissions", VHOST, USER, json={"configure": ".*", "write": ".*", "read": ".*"})


def protection_removed(broker: LiveBroker) -> None:
    broker.delete("vhosts", VHOST, "deletion", "protection")


def row_edited(broker: LiveBroker) -> None:
    with psycopg.connect(broker.outputs["registry_dsn"]) as connection:
        connection.execute("UPDATE tenants.rabbitmq_configurations SET plano = 'pro' WHERE cliente_id = 'mended'")


DAMAGES: tuple[Callable[[LiveBroker], None], ...] = (
    queue_deleted,
    binding_removed,
    policy_changed,
    operator_policy_removed,
    user_limit_removed,
    vhost_limit_changed,
    permission_widened,
    protection_removed,
    row_edited,
)
FOUND = {
    "mended/crm.leads.create": "delete",
    "mended/main/crm.leads.update.*": "delete",
    "mended/modulo-crm": "update",
    "mended/autoscaling-mended": "delete",
    "mended/safeguards": "update",
    "mended/vhost": "update",
    "mended/user": "update",
    "mended/record": "update",
}


@pytest.fixture
def row(broker: LiveBroker) -> Callable[[], Any]:
    def read() -> Any:
        query = (
            "SELECT plano, status, modulos_habilitados FROM tenants.rabbitmq_configurations WHERE cliente_id = 'mended'"
        )
        with psycopg.connect(broker.outputs["registry_dsn"]) as connection:
            return connection.execute(query).fetchone()

    return read


def test_refresh_finds_manual_changes_and_up_repairs_them(
    beside: Beside, planned: Planned, broker: LiveBroker, row: Callable[[], Any]
) -> None:
    stack = beside("mended", "crm")
    stack.must("up")
    right = row()
    for damage in DAMAGES:
        damage(broker)
    found = {name: op for op, name in (step.split(" ", 1) for step in changed(stack.must("refresh")))}
    # What hung on the deleted queue is gone with it.
    assert FOUND.items() <= found.items()
    assert all("crm.leads.create" in name for name in found.keys() - FOUND.keys()), found
    assert {step.split(" ", 1)[1] for step in changed(stack.must("preview"))} == found.keys()
    stack.must("up")
    broker.assert_is(planned(stack))
    assert row() == right
    assert changed(stack.must("up")) == []
    assert changed(stack.must("refresh")) == []
    stack.must("destroy")
