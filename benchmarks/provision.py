"""Provisioning one 8-module tenant, four ways on one broker: `python -m benchmarks.provision [--json]`.

Everything is measured in one run, in rounds: the local engine's `up`, an import of the same vhost as definitions (the
floor), one call per object as the source document's script does it, and the real CLI where it is on PATH; figures and
ratios are the rounds' medians. The three that are Python run in this process, so that none of them pays for imports
that the others don't; what the `kryonix` command takes, in a process of its own with imports and key derivation, is
shown beside them. Needs Docker, and about ten minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from statistics import median
from typing import Any
from unittest.mock import patch

from benchmarks.broker import Broker
from benchmarks.platform import platform
from benchmarks.report import Bound, Report
from kryonix.engines.local import LocalStack
from kryonix.topology.catalog import default_catalog
from kryonix.topology.expansion import Topology, expand
from kryonix.topology.tenants import Tenant
from tests.support.project import Project, tenant

RUNS = 5
FLEET = (1, 10, 20)
CATALOG = default_catalog()
MODULES = tuple(CATALOG.modules)
MakeStack = Callable[..., Project]


def main() -> int:
    with platform() as project:
        broker = Broker(project.outputs())
        by_cli = in_cli_backend(project) if shutil.which("pulumi") else None
        rounds = [one_round(project, broker, by_cli, n) for n in range(RUNS)]
    figures = {name: median(each[name] for each in rounds) for name in rounds[0]}

    def ratio(figure: str, to: str) -> float:
        return median(each[figure] / each[to] for each in rounds)

    late = "a late tenant of 20 in a stack / the first"
    bounds = [
        Bound("up / one call per object", ratio("engine_up_s", "one_call_per_object_s"), 1),
        Bound("no-op up / first up", ratio("engine_noop_s", "engine_up_s"), 0.4),
        Bound(late, ratio("fleet_11th_to_20th_tenant_s", "fleet_first_tenant_s"), 1.3),
    ]
    report = Report(f"provisioning a tenant with 8 modules, medians of {RUNS} rounds", figures, bounds)
    return report.print()


def one_round(project: Project, broker: Broker, by_cli: MakeStack | None, n: int) -> dict[str, float]:
    """Measure each way once, one after the other: other load on the machine then affects all of them."""
    print(f"round {n + 1} of {RUNS}", file=sys.stderr)
    figures = in_process(project, n)
    figures["one_call_per_object_s"] = broker.one_call_per_object(topology(f"one-{n}"))
    figures["definitions_import_s"] = broker.import_definitions(topology(f"def-{n}"))
    figures |= command(project, "local", project.beside, n)
    if by_cli is not None:
        figures |= command(project, "pulumi", by_cli, n)
    return figures | fleet(project)


def topology(id: str) -> Topology:
    return expand(Tenant(id=id, modules=MODULES, plan="enterprise"), CATALOG)


def in_process(project: Project, n: int) -> dict[str, float]:
    """Return the engine's seconds for the first `up`, a no-op `up` and `destroy` of a tenant's own stack."""
    with patch.dict(os.environ, project.env):
        made = project.beside(f"tenant-engine-{n}", tenant=tenant(f"engine-{n}", *MODULES))
        stack = LocalStack(made.folder, made.stack)
        return _named("engine", [run().seconds for run in (stack.up, stack.up, stack.destroy)])


def command(project: Project, engine: str, stack: MakeStack, n: int) -> dict[str, float]:
    """Return the same three seconds as the `kryonix` command reports them."""
    made = stack(f"tenant-{engine}-{n}", tenant=tenant(f"{engine}-{n}", *MODULES))
    return _named(f"command_{engine}", [seconds(made, operation, engine) for operation in ("up", "up", "destroy")])


def _named(name: str, runs: list[float]) -> dict[str, float]:
    return {f"{name}_{what}_s": took for what, took in zip(("up", "noop", "destroy"), runs, strict=True)}


def seconds(project: Project, operation: str, engine_name: str = "local") -> float:
    """Return an operation's seconds as the command reports them."""
    return float(project.must(operation, engine=engine_name)["seconds"])


def in_cli_backend(project: Project) -> MakeStack:
    """Copy the platform's outputs to a backend of the CLI, and return a function that makes tenant stacks there."""
    backend = project.folder / "backend"
    backend.mkdir()
    project.env |= {"PULUMI_BACKEND_URL": f"file://{backend}", "PULUMI_SKIP_UPDATE_CHECK": "true"}
    project.write("deployment.json", project.run("export").stdout)
    for arguments in (["stack", "init", project.stack], ["stack", "import", "--file", "deployment.json"]):
        command = ["pulumi", *arguments, "--non-interactive"]
        subprocess.run(command, cwd=project.folder, env=project.env, check=True, capture_output=True)

    def stack(name: str, **config: Any) -> Project:
        # Checkpoints at the end only, as tenant stacks are meant to run: a rerun converges.
        other = project.beside(name, **config)
        other.env = {**other.env, "PULUMI_EXPERIMENTAL": "true", "PULUMI_SKIP_CHECKPOINTS": "true"}
        return other

    return stack


def fleet(project: Project) -> dict[str, float]:
    """Return the seconds for a stack's first tenant, and for one of its second ten, without the platform's."""
    project.tenants()
    baseline = seconds(project, "up")
    took = {}
    for size in FLEET:
        project.tenants(*(tenant(f"fleet-{n}", *MODULES) for n in range(size)))
        took[size] = seconds(project, "up") - baseline
        project.tenants()
        seconds(project, "up")
    one, ten, twenty = (took[size] for size in FLEET)
    return {
        "fleet_platform_noop_s": baseline,
        "fleet_first_tenant_s": one,
        "fleet_10_tenants_s": ten,
        "fleet_20_tenants_s": twenty,
        "fleet_11th_to_20th_tenant_s": (twenty - ten) / 10,
    }


if __name__ == "__main__":
    sys.exit(main())
