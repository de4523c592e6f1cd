"""Measure the offline plan of a large fleet: `python -m benchmarks.plan [--json]`."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.report import Bound, Report

TENANTS, RUNS = 1_000, 3
MODULES = "crm, whatsapp, agendamento, financeiro, marketing, analytics, portal, whitelabel"


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        tenants = Path(folder) / "tenants.yaml"
        entries = (f"  - {{id: tenant-{n}, modules: [{MODULES}], plan: enterprise}}\n" for n in range(TENANTS))
        tenants.write_text("tenants:\n" + "".join(entries))
        seconds = {
            "table_s": median(plan(tenants) for _ in range(RUNS)),
            "json_s": median(plan(tenants, "--json") for _ in range(RUNS)),
        }
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    report = Report(
        f"offline plan of {TENANTS} tenants with 8 modules, median of {RUNS}",
        {**seconds, "peak_mib": peak},
        [Bound("slower of table and JSON, s", max(seconds.values()), 5), Bound("peak memory, MiB", peak, 500)],
    )
    return report.print()


def plan(tenants: Path, *arguments: str) -> float:
    """Return the seconds of the whole command."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "kryonix", "plan", "--tenants", str(tenants), *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
