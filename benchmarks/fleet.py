"""Measure rollouts: `python -m benchmarks.fleet [--json] [TENANTS]`; default: 12 tenants, an even number. Needs Docker.

Tenants with 8 modules, each with a stack of its own run by the local engine, are made by a first `kryonix fleet
rollout`. Then: a rollout with nothing to change; one that runs every stack (`--all`) with one, two and four at once;
one that changes each; and drift. Times are those of the command as a whole, divided by the tenants; `cpu_s` is what the
command and its children take of the processors, without the broker's share.

A changed tenant is compared with `up` of a stack alike in this process, in turn, by the median of the ratios of pairs.

More tenants are simulated: rows, digests and files of states as a run would leave them, for 2,000 with vhosts and users
on the broker, and for 10,000 with a stand-in for its lists.
"""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import chdir
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from benchmarks.platform import platform
from benchmarks.report import Bound, Report
from kryonix.engines.local import LocalStack
from kryonix.engines.process import LocalEngine
from kryonix.engines.workspace import config_file
from kryonix.fleet.unchanged import Unchanged
from kryonix.fleet.waves import Canary, plan_waves, spread
from kryonix.rabbitmq.broker import Broker
from kryonix.registry.connection import connect
from kryonix.registry.desired_states import DesiredState, fetch_desired_states, put_desired_state
from kryonix.registry.rollouts import fetch_latest_rollout
from kryonix.tenants.digests import Digests
from kryonix.tenants.lifecycle import TenantLifecycle
from kryonix.tenants.specs import spec_for, users_of, vhost_of
from kryonix.topology.catalog import default_catalog
from kryonix.topology.cells import single_cell
from kryonix.topology.naming import Names
from tests.support.project import Project

MODULES = tuple(default_catalog().modules)
PREFIX, SIMULATED = "fleet-", "sim-"
MANY, MORE = 2_000, 10_000


def main() -> int:
    given = [argument for argument in sys.argv[1:] if argument != "--json"]
    tenants, load = int(given[0]) if given else 12, os.getloadavg()[0]
    with platform() as project:
        dsn = str(project.outputs()["registry_dsn"])
        put(dsn, tenants)
        figures = {"tenants": float(tenants), "load_at_start": load}
        figures["first_rollout_by_2_s_per_tenant"] = rollout(project, 2) / tenants
        figures["unchanged_rollout_s"] = rollout(project, 2)
        for concurrency in (1, 2, 4):
            used = cpu_seconds()
            figures[f"all_by_{concurrency}_s_per_tenant"] = rollout(project, concurrency, "--all") / tenants
            figures[f"all_by_{concurrency}_cpu_s_per_tenant"] = (cpu_seconds() - used) / tenants
            if concurrency == 1:
                figures["all_early_tenant_s"], figures["all_late_tenant_s"] = early_and_late(dsn)
        used = cpu_seconds()
        put(dsn, tenants, status="suspended")
        figures["changed_by_2_s_per_tenant"] = rollout(project, 2) / tenants
        figures["changed_by_2_cpu_s_per_tenant"] = (cpu_seconds() - used) / tenants
        figures["drift_by_2_s_per_tenant"] = timed(project, "drift", "--concurrency", "2") / tenants
        figures["status_s"] = timed(project, "status")
        figures |= changed_beside_up(project, dsn, tenants)
        simulate(project, dsn, MANY, on_broker=True)
        figures["many_unchanged_s"] = rollout(project, 2)
        simulate(project, dsn, MORE, on_broker=False)
        figures["more_planned_s"] = planned(project, dsn)
    flat = figures["all_late_tenant_s"] / figures["all_early_tenant_s"]
    bounds = [
        Bound(f"{MANY:,} unchanged tenants, s", figures["many_unchanged_s"], 60),
        Bound("a changed tenant / `up` of its stack in process", figures["changed_to_up"], 1.5),
        Bound(f"{MORE:,} rows planned, s", figures["more_planned_s"], 10),
        Bound("all run: a late tenant / an early one", flat, 1.3),
    ]
    return Report("rollouts over stacks of 8-module tenants", figures, bounds).print()


def put(
    dsn: str, tenants: int, modules_of: Callable[[int], tuple[str, ...]] = lambda _: MODULES, **fields: Any
) -> None:
    """Write the tenants' desired states, with the modules of each number."""
    with connect(dsn) as connection:
        for number in range(tenants):
            name = f"{PREFIX}{number:03}"
            put_desired_state(
                connection, DesiredState(cliente_id=name, modules=modules_of(number), plan="enterprise", **fields)
            )


def rollout(project: Project, concurrency: int, *further: str) -> float:
    options = ("--yes", "--wave-size", "1000", "--concurrency", str(concurrency))
    return timed(project, "rollout", *options, *further)


def timed(project: Project, name: str, *arguments: str) -> float:
    """Run a command that must succeed, and return its seconds."""
    command = project.command("fleet", name, "--stack", project.stack, "--engine", "local", *arguments)
    began = time.perf_counter()
    result = subprocess.run(
        command, cwd=project.folder, env=project.env, capture_output=True, text=True, timeout=3600, check=False
    )
    took = time.perf_counter() - began
    if result.returncode != 0:
        raise RuntimeError(f"fleet {name} ended with {result.returncode}: {result.stderr}")
    return took


def cpu_seconds() -> float:
    """Return the CPU seconds of all ended child processes so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def early_and_late(dsn: str) -> tuple[float, float]:
    """Return the median seconds of the first and of the last third of the equal tenants written by `put`."""
    with connect(dsn) as connection:
        latest = fetch_latest_rollout(connection)
    alike = [tenant for tenant in latest.tenants if tenant.cliente_id.startswith(PREFIX)] if latest else []
    seconds = [tenant.seconds or 0.0 for tenant in alike]
    third = max(1, len(seconds) // 3)
    return median(seconds[:third]), median(seconds[-third:])


def changed_beside_up(project: Project, dsn: str, tenants: int) -> dict[str, float]:
    """Change each tenant: every other as a rollout does, with its row, and those between by `up` in this process."""
    cells = single_cell(project.stack)
    engine = LocalEngine(project.folder, keep=True)
    lifecycle = TenantLifecycle(dsn, engine, cells, default_catalog())
    as_rollout, in_process = list[float](), list[float]()
    secret = {"PULUMI_CONFIG_PASSPHRASE": project.env["PULUMI_CONFIG_PASSPHRASE"]}
    with patch.dict(os.environ, secret), chdir(project.folder), tempfile.TemporaryDirectory() as folder:
        first = lifecycle.state(f"{PREFIX}000")
        lifecycle.converge(first.cliente_id)  # starts the process
        LocalStack(project.folder, Names(first.cliente_id).stack, config_file=written(folder, first, project)).up()
        for status in ("active", "suspended"):
            for number in range(0, tenants, 2):
                one, other = (replace(first, cliente_id=f"{PREFIX}{each:03}") for each in (number, number + 1))
                with connect(dsn) as connection:
                    put_desired_state(connection, replace(one, status=status))
                as_rollout.append(seconds(partial(lifecycle.converge, one.cliente_id, thorough=False)))
                file = written(folder, replace(other, status=status), project)
                stack = LocalStack(project.folder, Names(other.cliente_id).stack, config_file=file)
                in_process.append(seconds(stack.up))
    engine.close()
    return {
        "changed_s": median(as_rollout),
        "up_in_process_s": median(in_process),
        "changed_to_up": median(ours / up for ours, up in zip(as_rollout, in_process, strict=True)),
    }


def written(folder: str, state: DesiredState, project: Project) -> Path:
    """Return the file with the config of a tenant's stack."""
    return config_file(Path(folder), spec_for(state, single_cell(project.stack)))


def seconds(run: Callable[[], object]) -> float:
    gc.collect()
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def simulate(project: Project, dsn: str, tenants: int, *, on_broker: bool) -> None:
    """Leave what runs of so many small tenants would: rows, states and digests; on the broker vhosts and users."""
    states = [
        DesiredState(cliente_id=f"{SIMULATED}{number:05}", modules=("crm",), plan="basic") for number in range(tenants)
    ]
    root = project.folder / ".kryonix" / "stacks"
    like = root / Names(f"{PREFIX}000").stack / "checkpoint.json"
    for state in states:
        folder = root / Names(state.cliente_id).stack
        folder.mkdir(exist_ok=True)
        if not (folder / like.name).exists():
            (folder / like.name).hardlink_to(like)  # a state of 0.7 MB each
    if on_broker:
        declare(Broker.of(project.outputs(), read_s=300), states)
    with patch.dict(os.environ, {"PULUMI_CONFIG_PASSPHRASE": project.env["PULUMI_CONFIG_PASSPHRASE"]}):
        engine = LocalEngine(project.folder)
        digests = Digests(engine, single_cell(project.stack), default_catalog())
        sources = digests.sources(states)
    marks = engine.marks([Names(state.cliente_id).stack for state in states])
    rows = [
        (state.cliente_id, digests.digest(sources[state.cliente_id], marks[Names(state.cliente_id).stack], None))
        for state in states
    ]
    with connect(dsn) as connection, connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO tenants.desired_states (cliente_id, modules, plan, status, cell, credentials_generation, "
            "applied_generation, applied_at, updated_at, applied_digest) "
            "VALUES (%s, '[\"crm\"]', 'basic', 'active', 'main', 1, 1, now(), now(), %s) "
            "ON CONFLICT (cliente_id) DO UPDATE SET applied_digest = EXCLUDED.applied_digest",
            rows,
        )


def declare(broker: Broker, states: list[DesiredState], at_once: int = 200) -> None:
    for first in range(0, len(states), at_once):
        some = states[first : first + at_once]
        users = [{"name": user, "password_hash": "", "tags": []} for state in some for user in users_of(state)]
        vhosts = [{"name": vhost_of(state)} for state in some]
        broker.call("POST", "definitions", json={"vhosts": vhosts, "users": users})


class Lists:
    """The lists of a broker that has everything of these tenants."""

    def __init__(self, states: Iterable[DesiredState]) -> None:
        self._lists: dict[str, list[dict[str, str]]] = {"vhosts": [], "users": []}
        for state in states:
            self._lists["vhosts"].append({"name": vhost_of(state)})
            self._lists["users"] += [{"name": user} for user in users_of(state)]

    def get(self, kind: str, *, columns: str) -> list[dict[str, str]]:
        return self._lists[kind]

    def notes(self, prefix: str) -> dict[str, Any]:
        return {}


def planned(project: Project, dsn: str) -> float:
    """Return the seconds to read the rows, find the unchanged ones, and plan the waves of all others."""
    cells, catalog = single_cell(project.stack), default_catalog()
    with connect(dsn) as connection:
        lists = Lists(fetch_desired_states(connection))

    def plan() -> None:
        with connect(dsn) as connection:
            states = fetch_desired_states(connection)
        found = Unchanged(dsn, LocalEngine(project.folder), cells, catalog).find(states)
        waves = plan_waves([name for name in spread(states) if name not in found], Canary(), 10)
        if len(found) < MORE or sum(map(len, waves)) + len(found) != len(states):
            raise RuntimeError(f"{len(found)} of {len(states)} tenants are unchanged")

    secret = {"PULUMI_CONFIG_PASSPHRASE": project.env["PULUMI_CONFIG_PASSPHRASE"]}
    with patch.dict(os.environ, secret), patch.object(Broker, "of", lambda outputs: lists):
        return seconds(plan)


if __name__ == "__main__":
    sys.exit(main())
