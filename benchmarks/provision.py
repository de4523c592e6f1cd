"""Provisioning one 8-module tenant, four ways on one broker: `python -m benchmarks.provision [--json]`.

Everything is measured in one run: the local engine's `up`, an import of the same vhost as definitions (the floor), one
call per object as the source document's script does it, and the real CLI where it is on PATH. The three that are Python
run in this process, so that none of them pays for imports that the others don't; what the `kryonix` command takes, in a
process of its own with imports and key derivation, is shown beside them. Needs Docker.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from benchmarks.broker import Broker
from benchmarks.report import Bound, Report
from kryonix.local import LocalStack
from kryonix.topology.catalog import default_catalog
from kryonix.topology.expansion import Topology, expand
from kryonix.topology.tenants import Tenant
from tests.harness import ROOT, Project, tenant

RUNS = 5
FLEET = (1, 10, 20)
FLEET_RUNS = 3
CATALOG = default_catalog()
MODULES = tuple(CATALOG.modules)


def main() -> int:
    with platform() as project:
        broker = Broker(project.outputs())
        figures = in_process(project) | command(project, "local", project.beside)
        figures["definitions_import_s"] = median(broker.import_definitions(topology(f"def-{n}")) for n in range(RUNS))
        figures["one_call_per_object_s"] = median(broker.one_call_per_object(topology(f"one-{n}")) for n in range(RUNS))
        if shutil.which("pulumi"):
            figures |= command(project, "pulumi", in_cli_backend(project))
        figures |= fleet(project)
    first, late = figures["fleet_first_tenant_s"], figures["fleet_11th_to_20th_tenant_s"]
    bounds = [
        Bound("up / one call per object", figures["engine_up_s"] / figures["one_call_per_object_s"], 1),
        Bound("no-op up / first up", figures["engine_noop_s"] / figures["engine_up_s"], 0.4),
        Bound("a late tenant of 20 in a stack / the first", late / first, 1.3),
    ]
    report = Report(f"provisioning a tenant with 8 modules, median of {RUNS}", figures, bounds)
    return report.print(as_json="--json" in sys.argv)


@contextmanager
def platform() -> Iterator[Project]:
    """A broker and a registry without tenants."""
    with tempfile.TemporaryDirectory() as folder:
        project = Project.platform(Path(folder) / "project")
        (project.folder / ".venv").symlink_to(ROOT / ".venv")
        try:
            seconds(project, "up")
            yield project
        finally:
            project.remove()


def topology(id: str) -> Topology:
    return expand(Tenant(id=id, modules=MODULES, plan="enterprise"), CATALOG)


def in_process(project: Project) -> dict[str, float]:
    """The engine alone: seconds of the first `up`, a no-op `up` and `destroy` of one tenant in a stack of its own."""
    runs = []
    with patch.dict(os.environ, project.env):
        for n in range(RUNS):
            made = project.beside(f"tenant-engine-{n}", tenant=tenant(f"engine-{n}", *MODULES))
            stack = LocalStack(made.folder, made.stack)
            runs.append([run().seconds for run in (stack.up, stack.up, stack.destroy)])
    return _medians("engine", runs)


def command(project: Project, engine: str, stack: Callable[..., Project]) -> dict[str, float]:
    """The same three by the `kryonix` command, as it reports them itself."""
    runs = []
    for n in range(RUNS):
        tenant_stack = stack(f"tenant-{engine}-{n}", tenant=tenant(f"{engine}-{n}", *MODULES))
        runs.append([seconds(tenant_stack, operation, engine) for operation in ("up", "up", "destroy")])
    return _medians(f"command_{engine}", runs)


def _medians(name: str, runs: list[list[float]]) -> dict[str, float]:
    firsts, noops, destroys = zip(*runs, strict=True)
    return {f"{name}_up_s": median(firsts), f"{name}_noop_s": median(noops), f"{name}_destroy_s": median(destroys)}


def seconds(project: Project, operation: str, engine_name: str = "local") -> float:
    """Seconds an operation takes, as the command itself reports them."""
    return float(project.must(operation, engine=engine_name)["seconds"])


def in_cli_backend(project: Project) -> Callable[..., Project]:
    """Make the platform's outputs known to the CLI, in a backend of its own; returns what makes tenant stacks there."""
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
    """Seconds beyond the platform's that a stack's first tenant takes, and one of its second ten. Medians."""
    project.tenants()
    baseline = median(seconds(project, "up") for _ in range(3))
    took: dict[int, list[float]] = {size: [] for size in FLEET}
    for _ in range(FLEET_RUNS):
        for size in FLEET:
            project.tenants(*(tenant(f"fleet-{n}", *MODULES) for n in range(size)))
            took[size].append(seconds(project, "up") - baseline)
            project.tenants()
            seconds(project, "up")
    one, ten, twenty = (median(took[size]) for size in FLEET)
    return {
        "fleet_platform_noop_s": baseline,
        "fleet_first_tenant_s": one,
        "fleet_10_tenants_s": ten,
        "fleet_20_tenants_s": twenty,
        "fleet_11th_to_20th_tenant_s": (twenty - ten) / 10,
    }


if __name__ == "__main__":
    sys.exit(main())
