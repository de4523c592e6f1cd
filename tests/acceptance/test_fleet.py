"""`kryonix fleet` over three small tenants with stacks of their own, on a real platform."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from kryonix.registry.connection import connect
from kryonix.registry.desired_states import DesiredState, put_desired_state
from kryonix.registry.rollouts import Rollout, fetch_latest_rollout
from tests.support.live_broker import LiveBroker
from tests.support.project import Project, Result
from tests.support.waiting import eventually

NAMES = ("fleet-a", "fleet-b", "fleet-c")
ROWS = {name: DesiredState(cliente_id=name, modules=("crm",), plan="basic") for name in NAMES}
BROKEN = ("fax",)
"""A module that the catalog does not have: its stack can't be made."""


class Fleet:
    """The three tenants, their rows, and the command."""

    def __init__(self, platform: Project, broker: LiveBroker) -> None:
        self.platform, self.broker = platform, broker
        self.dsn = str(broker.outputs["registry_dsn"])

    def command(self, name: str, *arguments: str) -> list[str]:
        engine = ["--stack", self.platform.stack, "--engine", "local"]
        return ["fleet", name, *engine, *arguments]

    def run(self, name: str, *arguments: str) -> Result:
        return self.platform.kryonix(*self.command(name, *arguments))

    def rollout(self, *arguments: str, ends_with: int = 0) -> dict[str, Any]:
        """A rollout's report."""
        result = self.run("rollout", "--yes", "--json", *arguments)
        assert result.returncode == ends_with, f"{result.stdout}\n{result.stderr}"
        report: dict[str, Any] = json.loads(result.stdout)
        return report

    def put(self, **changed: dict[str, Any]) -> None:
        """Write every tenant's row: as it was at first, but for what is said here, by the last letter of its name."""
        with connect(self.dsn) as connection:
            for name, row in ROWS.items():
                put_desired_state(connection, replace(row, **changed.get(name[-1], {})))

    def latest(self) -> Rollout:
        with connect(self.dsn) as connection:
            found = fetch_latest_rollout(connection)
        assert found is not None
        return found

    def max_connections(self, name: str) -> int:
        return self.broker.vhost_limits(f"/cliente_{name}")["max-connections"]

    def policy(self, name: str) -> dict[str, Any]:
        return dict(self.broker.get("policies", f"/cliente_{name}", "modulo-crm"))

    def remove(self) -> None:
        with connect(self.dsn) as connection:
            connection.execute("DELETE FROM tenants.rollout_tenants")
            connection.execute("DELETE FROM tenants.rollouts")
            for name in NAMES:
                connection.execute("DELETE FROM tenants.desired_states WHERE cliente_id = %s", (name,))
        for name in NAMES:
            self.broker.forget(name)
            stacks = self.platform.folder / ".kryonix" / "stacks"
            shutil.rmtree(stacks / f"tenant-{name}", ignore_errors=True)


@pytest.fixture(scope="module")
def made(platform: Project, broker: LiveBroker) -> Iterator[Fleet]:
    """Three tenants that a first rollout has made."""
    fleet = Fleet(platform, broker)
    try:
        fleet.put()
        assert fleet.rollout()["status"] == "done"
        yield fleet
    finally:
        fleet.remove()


@pytest.fixture
def fleet(made: Fleet) -> Fleet:
    made.put()
    return made


def tenants_of(report: dict[str, Any], field: str = "status") -> dict[str, Any]:
    return {tenant.get("cliente_id", tenant.get("id")): tenant[field] for tenant in report["tenants"]}


def test_a_rollout_applies_the_registry_rows(fleet: Fleet) -> None:
    result = fleet.run("status", "--json")
    assert result.returncode == 0, result.stderr
    status = json.loads(result.stdout)
    mine = [tenant for tenant in status["tenants"] if tenant["id"] in NAMES]
    assert [tenant["stack"] for tenant in mine] == ["present"] * len(NAMES)
    assert [tenant["queues"] for tenant in mine] == [{"now": 15, "planned": 15, "allowed": 50}] * len(NAMES)
    assert [tenant["pending"] for tenant in mine] == [[]] * len(NAMES)
    assert status["rollout"]["status"] == "done"
    assert 'password":' not in result.stdout
    assert str(fleet.broker.outputs["admin_password"]) not in result.stdout


def test_a_platforms_status_shows_every_tenant_and_what_manages_it(fleet: Fleet) -> None:
    found = {tenant["id"]: tenant for tenant in fleet.platform.must("status")["tenants"]}
    assert {found[name]["managed_by"] for name in NAMES} == {"own stack"}
    assert {found[name]["managed_by"] for name in ("acme", "beta")} == {"tenants.yaml"}
    first = found[NAMES[0]]
    assert (first["queues"], first["recorded_queues"], first["registry"]) == (15, None, "ativo")
    own = fleet.platform.kryonix("status", "--stack", f"tenant-{NAMES[0]}", "--engine", "local", "--json")
    (alone,) = json.loads(own.stdout)["tenants"]
    assert (alone["id"], alone["managed_by"], alone["queues"]) == (NAMES[0], "own stack", 15)


def test_a_dry_run_shows_changes_and_applies_none(fleet: Fleet) -> None:
    fleet.put(b={"plan": "pro"})
    before, allowed = fleet.latest(), fleet.max_connections("fleet-b")
    result = fleet.run("rollout", "--dry-run", "--json", "--canary", "fleet-b", "--wave-size", "2")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["waves"] == [["fleet-b"]]
    assert tenants_of(report) == {"fleet-a": "unchanged", "fleet-b": "pending", "fleet-c": "unchanged"}
    assert report["counts"] == {"pending": 1, "unchanged": 2}
    assert "fleet-b/vhost" in [step["name"] for step in tenants_of(report, "steps")["fleet-b"]]
    assert fleet.max_connections("fleet-b") == allowed
    assert fleet.latest() == before


def test_a_failed_canary_stops_the_rollout_until_it_is_repaired(fleet: Fleet) -> None:
    fleet.put(a={"modules": BROKEN}, b={"plan": "pro"})
    before = fleet.max_connections("fleet-b")
    report = fleet.rollout("--canary", "fleet-a", "--failure-budget", "100%", ends_with=1)
    assert report["status"] == "stopped"
    assert tenants_of(report) == {"fleet-a": "failed", "fleet-b": "pending", "fleet-c": "unchanged"}
    assert "unknown module 'fax'" in tenants_of(report, "error")["fleet-a"]
    assert fleet.max_connections("fleet-b") == before
    fleet.put(b={"plan": "pro"})
    resumed = fleet.rollout("--resume")
    assert (resumed["id"], resumed["status"]) == (report["id"], "done")
    assert fleet.max_connections("fleet-b") == 50


def test_a_rollout_stops_past_the_failure_budget(fleet: Fleet) -> None:
    fleet.put(a={"modules": BROKEN}, b={"plan": "enterprise"})
    before = fleet.max_connections("fleet-b")
    result = fleet.run("rollout", "--yes", "--canary", "fleet-c", "--failure-budget", "10%", "--concurrency", "1")
    assert result.returncode == 1
    assert "stopped: more tenants failed than the budget of 10%; 1 failed, 1 not started" in result.stderr
    assert fleet.max_connections("fleet-b") == before
    assert {tenant.cliente_id: tenant.status for tenant in fleet.latest().tenants} == {
        "fleet-a": "failed",
        "fleet-b": "pending",
        "fleet-c": "done",
    }


def test_drift_shows_manual_changes_until_they_are_repaired(fleet: Fleet) -> None:
    policy = fleet.policy("fleet-c")
    changed = {**policy, "definition": {**policy["definition"], "message-ttl": 1000}}
    fleet.broker.put("policies", "/cliente_fleet-c", "modulo-crm", json=changed)
    asked = ("--tenant", "fleet-c", "--tenant", "fleet-a", "--json")
    result = fleet.run("drift", "--expect-no-changes", *asked)
    assert result.returncode == 4, result.stderr
    report = {tenant["id"]: tenant for tenant in json.loads(result.stdout)["tenants"]}
    assert [(step["op"], step["name"]) for step in report["fleet-c"]["found"]] == [("update", "fleet-c/modulo-crm")]
    assert report["fleet-a"]["differs"] is False
    again = fleet.run("drift", "--tenant", "fleet-c", "--json")
    assert again.returncode == 0, "without --expect-no-changes a difference is no failure"
    (found,) = json.loads(again.stdout)["tenants"]
    assert (found["found"], [step["name"] for step in found["pending"]]) == ([], ["fleet-c/modulo-crm"])
    repaired = fleet.rollout()
    assert (repaired["status"], tenants_of(repaired)["fleet-c"]) == ("done", "done")
    assert fleet.policy("fleet-c") == policy
    nothing = fleet.run("rollout", "--json")
    assert nothing.returncode == 0, nothing.stderr
    report = json.loads(nothing.stdout)
    assert (report["status"], report["counts"]) == ("done", {"unchanged": len(NAMES)})


def tenants_done(rollout: Rollout) -> dict[str, float | None]:
    """Return how many seconds each tenant took that is done."""
    return {tenant.cliente_id: tenant.seconds for tenant in rollout.tenants if tenant.status == "done"}


def test_a_second_rollout_is_refused_and_a_killed_one_resumes(fleet: Fleet) -> None:
    """Slow: two rollouts deploy each tenant of the fleet."""
    fleet.put(b={"plan": "enterprise"})
    before = fleet.latest().id
    command = fleet.platform.command(*fleet.command("rollout", "--yes", "--all", "--concurrency", "1"))
    none = subprocess.DEVNULL
    folder, env = fleet.platform.folder, fleet.platform.env
    first = subprocess.Popen(command, cwd=folder, env=env, stdin=none, stdout=none, stderr=none)
    try:
        eventually("a rollout begins", lambda: fleet.latest().id > before, process=first)
        first.send_signal(signal.SIGSTOP)  # however fast it is, it holds the fleet as long as the second takes
        second = fleet.run("rollout", "--yes")
        first.send_signal(signal.SIGCONT)
        assert second.returncode == 3
        assert f"rollout {before + 1} is running: process {first.pid} on " in second.stderr
        eventually("a tenant is done", lambda: tenants_done(fleet.latest()), 240, process=first)
    finally:
        first.kill()
        first.wait()
    cut_off = fleet.latest()
    assert cut_off.status == "running"
    done = tenants_done(cut_off)
    assert 0 < len(done) < len(NAMES)
    report = fleet.rollout("--resume", "--concurrency", "2")
    assert (report["id"], report["status"]) == (cut_off.id, "done")
    assert {name: tenants_of(report, "seconds")[name] for name in done} == done, "what was done was done again"
    assert fleet.max_connections("fleet-b") == 100
    nothing = fleet.run("rollout", "--resume", "--yes")
    assert nothing.returncode == 2
    assert "there is no rollout to resume: the last one" in nothing.stderr


def test_place_names_the_cell_or_the_missing_capacity(fleet: Fleet) -> None:
    asked = ("--modules", "crm,financeiro", "--plan", "pro")
    placed = json.loads(fleet.run("place", *asked, "--json").stdout)
    assert placed["cell"] == "main"
    said = fleet.run("place", "--modules", "crn", "--plan", "por").stderr
    assert "--modules: unknown module 'crn'; did you mean 'crm'?" in said
    assert "--plan: unknown plan 'por'; did you mean 'pro'?" in said
    file = fleet.platform.folder / "cells.yaml"
    file.write_text(f"cells: {{full: {{platform: organization/kryonix/{fleet.platform.stack}, max_queues: 100}}}}\n")
    try:
        refused = fleet.run("place", *asked)
    finally:
        file.unlink()
    assert refused.returncode == 2
    assert "no cell has room for 25 queues, 50 connections and 608MiB of messages" in refused.stderr
    assert "in the cell 'full'" in refused.stderr
