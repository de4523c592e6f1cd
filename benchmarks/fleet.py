"""Measure a rollout: `python -m benchmarks.fleet [--json] [TENANTS]`; default: 12 tenants. Needs Docker.

Tenants with 8 modules, each with a stack of its own run by the local engine, are made by a first `kryonix fleet
rollout`; then the same rollout, with nothing to change, is run with one, two and four stacks at once, and every tenant
is examined for drift. Times are those of the command as a whole, divided by the tenants; `cpu_s` is what the command
and its children take of the processors, which other work on the machine changes little; without the broker's share.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from statistics import median

from benchmarks.platform import platform
from benchmarks.report import Bound, Report
from kryonix.registry.connection import connect
from kryonix.registry.desired_states import DesiredState, put_desired_state
from kryonix.registry.rollouts import fetch_latest_rollout
from kryonix.topology.catalog import default_catalog
from tests.support.project import Project

MODULES = tuple(default_catalog().modules)
PREFIX = "fleet-"


def main() -> int:
    given = [argument for argument in sys.argv[1:] if argument != "--json"]
    tenants, load = int(given[0]) if given else 12, os.getloadavg()[0]
    with platform() as project:
        dsn = str(project.outputs()["registry_dsn"])
        put(dsn, tenants)
        figures = {"tenants": float(tenants), "load_at_start": load}
        figures["first_rollout_by_2_s_per_tenant"] = rollout(project, 2) / tenants
        for concurrency in (1, 2, 4):
            used = cpu_seconds()
            figures[f"noop_rollout_by_{concurrency}_s_per_tenant"] = rollout(project, concurrency) / tenants
            figures[f"noop_rollout_by_{concurrency}_cpu_s_per_tenant"] = (cpu_seconds() - used) / tenants
            if concurrency == 1:
                figures["noop_early_tenant_s"], figures["noop_late_tenant_s"] = early_and_late(dsn)
        figures["drift_by_2_s_per_tenant"] = timed(project, "drift", "--concurrency", "2") / tenants
        figures["status_s"] = timed(project, "status")
    flat = figures["noop_late_tenant_s"] / figures["noop_early_tenant_s"]
    bounds = [Bound("no-op rollout: a late tenant / an early one", flat, 1.3)]
    return Report("rollouts over stacks of 8-module tenants", figures, bounds).print()


def put(dsn: str, tenants: int, modules_of: Callable[[int], tuple[str, ...]] = lambda _: MODULES) -> None:
    """Write the tenants' desired states, with the modules of each number."""
    with connect(dsn) as connection:
        for number in range(tenants):
            row = DesiredState(cliente_id=f"{PREFIX}{number:03}", modules=modules_of(number), plan="enterprise")
            put_desired_state(connection, row)


def rollout(project: Project, concurrency: int) -> float:
    return timed(project, "rollout", "--yes", "--wave-size", "1000", "--concurrency", str(concurrency))


def timed(project: Project, name: str, *arguments: str) -> float:
    """Run a command that must succeed, and return its seconds."""
    began = time.perf_counter()
    result = project.kryonix("fleet", name, "--stack", project.stack, "--engine", "local", *arguments, timeout=3600)
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


if __name__ == "__main__":
    sys.exit(main())
