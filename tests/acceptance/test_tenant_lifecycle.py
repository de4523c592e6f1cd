"""`kryonix tenant` for an operator: options, output and errors."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import ALL_MODULES
from tests.support.lifecycle_env import LifecycleEnv
from tests.support.live_broker import LiveBroker
from tests.support.project import Project, Result
from tests.support.waiting import eventually

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


@pytest.fixture(scope="module")
def operator(platform: Project, broker: LiveBroker) -> Iterator[Operator]:
    made = Operator(platform, broker)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PULUMI_CONFIG_PASSPHRASE", platform.env["PULUMI_CONFIG_PASSPHRASE"])
        with LifecycleEnv.on(platform, broker) as env, env.leaving_nothing():
            yield made


def test_the_command_runs_a_tenants_whole_lifecycle(operator: Operator) -> None:
    mail = ("--notify-email", "ops@example.com")
    made = operator.must("create", ID, "--modules", "crm,portal", "--plan", "basic", *mail)
    assert set(made) == {"vhost", "username", "password", "amqp_uri", "amqp_addresses"}
    assert made["amqp_addresses"] == operator.platform.outputs()["amqp_addresses"]
    operator.broker.publish(VHOST, LEADS, 2)
    dry = operator.run("change", ID, "--modules", "portal", "--dry-run", "--json")
    assert (dry.returncode, json.loads(dry.stdout)["messages"]) == (2, {LEADS: 2}), dry.stderr
    dry_accepted = operator.must("change", ID, "--modules", "portal", "--dry-run", "--allow-delete", LEADS)
    assert "life/crm.leads.create" in {step["name"] for step in dry_accepted["steps"] if step["op"] == "delete"}
    assert operator.broker.has("queues", VHOST, LEADS)
    changed = operator.must("change", ID, "--modules", "portal", "--allow-delete", LEADS)
    assert (changed["modules"], changed["converged"]) == (["portal"], True)
    hooked = operator.must("change", ID, "--notify-webhook", "https://hooks.example.com/a-token")
    assert hooked["notify"] == {"webhook": "https://hooks.example.com/…", "email": ["ops@example.com"]}
    assert operator.must("show", ID)["notify"] == hooked["notify"]
    assert "'nobody' is not an e-mail address" in operator.refused(2, "change", ID, "--notify-email", "nobody")
    assert operator.must("change", ID, "--no-notify")["notify"] is None
    rotated = operator.must("rotate", ID, "--overlap-hours", "0")
    assert rotated["username"] == "kryonix_life.2"
    assert rotated["password"] != made["password"]
    assert operator.must("suspend", ID)["status"] == "suspended"
    listed = {state["id"]: state for state in operator.must("list")}
    assert (listed[ID]["status"], listed[ID]["modules"]) == ("suspended", ["portal"])
    assert {id: listed[id]["managed_by"] for id in (ID, "beta")} == {ID: "own stack", "beta": "tenants.yaml"}
    assert operator.must("show", ID)["use"]["connections"] == {"now": 0, "allowed": 0}
    assert operator.must("resume", ID)["status"] == "active"
    left = operator.must("offboard", ID, "--grace-days", "0")
    assert (left["status"], left["remove_after"] is not None) == ("offboarding", True)
    (export,) = json.loads(operator.run("exports", ID).stdout)
    assert "cliente_life.portal.interacoes.track" in {queue["name"] for queue in export["definitions"]["queues"]}
    assert "needs confirmation" in operator.refused(2, "remove", ID, "--force")
    assert operator.must("settle") == {"settled": [ID]}
    assert not operator.broker.has("vhosts", VHOST)


def test_an_invalid_choice_is_refused_with_the_valid_ones(operator: Operator) -> None:
    plan = ("--modules", "crm", "--plan", "basic")
    assert "did you mean 'crm'" in operator.refused(2, "create", "life-two", "--modules", "crn", "--plan", "basic")
    assert "unknown cell" in operator.refused(2, "create", "life-two", *plan, "--cell", "moon")
    for id in ("../etc", "аcme", "x" * 10_000, "a\nb"):  # the second begins with a Cyrillic letter
        said = operator.refused(2, "create", id, *plan)
        assert "id" in said
        assert len(said) < 1000, "what was received is not repeated at length"
    assert "there is no tenant" in operator.refused(2, "converge", "../etc")
    assert not [vhost for vhost in operator.broker.vhosts() if "life-two" in vhost]


def test_a_tenant_of_the_platforms_list_is_shown_with_its_messages(operator: Operator) -> None:
    vhost, queue = "/cliente_beta", "cliente_beta.crm.leads.create"
    operator.broker.publish(vhost, queue, 2)
    try:
        shown: dict[str, Any] = {}

        def counted() -> bool:
            shown.update(operator.must("show", "beta"))
            return "crm.leads.create" in shown["messages"]

        eventually("the broker counts the messages", counted)
    finally:
        operator.broker.call("DELETE", "queues", vhost, queue, "contents")
    assert (shown["managed_by"], shown["vhost"], shown["cell"]) == ("tenants.yaml", vhost, "main")
    assert shown["messages"]["crm.leads.create"] == {"backlog": 2, "dead_letters": 0}
    assert "kryonix_beta" in shown["users"]
    assert "did you mean 'beta'" in operator.refused(2, "show", "betta")


def test_a_tenant_of_the_platforms_list_is_not_taken_over(operator: Operator) -> None:
    said = operator.refused(2, "create", "beta", "--modules", "crm", "--plan", "basic")
    assert "'beta' is already part of another stack" in said
    said = operator.refused(2, "suspend", "beta")
    assert "the tenant 'beta' is declared in the platform's list of tenants" in said
    assert "`status: suspended`" in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"cells: {main: {platform: dev}}", "is not a platform stack. Write organization/kryonix/NAME"),
        (b"cells: {main: {platform: organization/kryonix/dev, max_queue: 3}}", "did you mean 'max_queues'"),
        (b"cells: [", "cells.yaml:2: not readable as YAML"),
        (b"\xff\xfe\x00", "cells.yaml"),
        (b"", "cells.yaml"),
    ],
)
def test_a_broken_cells_file_is_reported(operator: Operator, content: bytes, said: str) -> None:
    file = operator.platform.folder / "cells.yaml"
    file.write_bytes(content)
    try:
        assert said in operator.refused(2, "list")
    finally:
        file.unlink()


def test_a_wrong_passphrase_and_a_missing_platform_are_reported(operator: Operator) -> None:
    wrong = Operator(copy.copy(operator.platform), operator.broker)
    wrong.platform.env = {**operator.platform.env, "PULUMI_CONFIG_PASSPHRASE": "not it"}
    assert "passphrase" in wrong.refused(3, "list")
    none = operator.platform.kryonix("tenant", "list", "--stack", "none", "--engine", "local")
    assert none.returncode == 2
    assert "stack 'none' has no registry in its outputs: nothing is deployed" in none.stderr


def test_ctrl_c_stops_cleanly_and_the_same_command_continues(operator: Operator) -> None:
    command = ("create", "life-cut", "--modules", ",".join(ALL_MODULES), "--plan", "enterprise")
    process = subprocess.Popen(
        operator.platform.command(*operator.arguments(*command)),
        cwd=operator.platform.folder, env=operator.platform.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    eventually("the vhost is there", lambda: operator.broker.has("vhosts", "/cliente_life-cut"), process=process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, "")
    assert "interrupted; run the same command again to continue" in err
    assert "Traceback" not in err
    assert operator.must(*command)["username"] == "kryonix_life-cut"
