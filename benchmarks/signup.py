"""Measure the time from POST to ready: `python -m benchmarks.signup [--json] [FLEET]`; default: 50. Needs Docker.

The service and a worker run as their commands. Tenants are asked for by HTTP and are ready when their operation has
succeeded: basic ones with one module, and full ones with all 8, alone and 10 at once. Beside it, in the same run, a
vhost of a full tenant imported as definitions, which is the least that a broker needs; and three rollouts with nothing
to change over as many small tenants as the fleet has, and those that were made before.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.broker import Broker
from benchmarks.fleet import early_and_late, put, rollout
from benchmarks.report import Bound, Report
from kryonix.topology.catalog import default_catalog
from kryonix.topology.expansion import expand
from kryonix.topology.tenants import Tenant
from tests.support.project import ROOT
from tests.support.signup_service import Signup

RUNS = 5
ROLLOUTS = 3
AT_ONCE = 10
CATALOG = default_catalog()
FULL: dict[str, Any] = {"modules": list(CATALOG.modules), "plan": "enterprise"}
BASIC: dict[str, Any] = {"modules": ["crm"], "plan": "basic"}


def main() -> int:
    given = [argument for argument in sys.argv[1:] if argument != "--json"]
    tenants = int(given[0]) if given else 50
    figures = {"load_at_start": os.getloadavg()[0]}
    with service() as signup:
        for name, wanted in (("basic", BASIC), ("full", FULL)):
            figures[f"{name}_alone_s"] = median(ready(signup, f"{name}-alone-{n}", wanted) for n in range(RUNS))
            figures |= at_once(signup, name, wanted)
        broker = Broker(signup.outputs)
        full = [expand(Tenant.model_validate({"id": f"def-{n}", **FULL}), CATALOG) for n in range(RUNS)]
        figures["definitions_import_s"] = median(broker.import_definitions(topology) for topology in full)
        figures |= fleet(signup, tenants)
    bounds = [
        Bound("a full tenant alone / definitions import", figures["full_alone_s"] / figures["definitions_import_s"], 6),
        Bound("no-op rollout: a late tenant / an early one", figures["noop_late_to_early"], 1.3),
    ]
    report = Report(f"signup, median of {RUNS}", figures, bounds)
    return report.print()


@contextmanager
def service() -> Iterator[Signup]:
    """Yield the service and a worker on a platform without tenants."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "project").mkdir()
        (Path(folder) / "project" / ".venv").symlink_to(ROOT / ".venv")
        with Signup.on_own_platform(Path(folder)) as signup:
            yield signup


def ready(signup: Signup, id: str, wanted: dict[str, Any]) -> float:
    """Return the seconds from the request to the end of its operation."""
    began = time.perf_counter()
    operation = signup.caller.ended(signup.caller.taken("POST", "/v1/tenants", {"id": id, **wanted}), 600)
    if operation["status"] != "succeeded":
        raise RuntimeError(f"the creation of {id!r} has failed: {operation['problem']}")
    return time.perf_counter() - began


def at_once(signup: Signup, name: str, wanted: dict[str, Any]) -> dict[str, float]:
    """Send ten requests at once; return when the last is ready, and the median wait."""
    began = time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        took = list(pool.map(lambda n: ready(signup, f"{name}-once-{n}", wanted), range(AT_ONCE)))
    last = time.perf_counter() - began
    return {f"{name}_{AT_ONCE}_at_once_median_s": median(took), f"{name}_{AT_ONCE}_at_once_last_s": last}


def fleet(signup: Signup, tenants: int) -> dict[str, float]:
    """Measure rollouts without changes, over tenants made by an earlier one."""
    dsn = str(signup.outputs["registry_dsn"])
    put(dsn, tenants, lambda _: ("crm",))
    rollout(signup.project, 2)
    everyone = tenants + 2 * (RUNS + AT_ONCE)
    took, early, late = [], [], []
    for _ in range(ROLLOUTS):
        took.append(rollout(signup.project, 2, "--all") / everyone)
        first, last = early_and_late(dsn)
        early.append(first)
        late.append(last)
    return {
        "fleet_tenants": float(everyone),
        "fleet_noop_s_per_tenant": median(took),
        "noop_early_tenant_s": median(early),
        "noop_late_tenant_s": median(late),
        "noop_late_to_early": median(last / first for first, last in zip(early, late, strict=True)),
    }


if __name__ == "__main__":
    sys.exit(main())
