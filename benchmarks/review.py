"""Measure the review of a change in a large fleet: `python -m benchmarks.review [--json]`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import kryonix
from benchmarks.report import Bound, Report

TENANTS, CHANGED, RUNS, MOST_S = 1_000, 10, 3, 6
MODULES = "crm, whatsapp, agendamento, financeiro, marketing, analytics, portal, whitelabel"
# What differs at the base beside the tenants: nothing, a retention in every tenant's policies, a comment in the code.
BASES = {
    "tenants": ("tenants.yaml", "", ""),
    "catalog": ("kryonix/topology/catalog.yaml", "retention: 24h\n    priority", "retention: 12h\n    priority"),
    "code": ("kryonix/topology/naming.py", '"""Every name', '"""Each name'),
}


def main() -> int:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        _repository(folder)
        figures = {f"{base}_markdown_s": _seconds(folder, base, "markdown") for base in BASES}
        figures["tenants_table_s"] = _seconds(folder, "tenants", "table")
        figures["tenants_json_s"] = _seconds(folder, "tenants", "json")
    report = Report(
        f"review of {TENANTS} tenants with 8 modules of which {CHANGED} changed, whole command, median of {RUNS}",
        figures,
        [Bound(f"{name.removesuffix('_s')}, s", value, MOST_S) for name, value in figures.items()],
    )
    return report.print()


def _repository(folder: Path) -> None:
    """Make a repository with the program, a tag for each base, and the change on top."""
    package = Path(kryonix.__file__).parent
    shutil.copytree(package, folder / "kryonix", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / ".gitignore").write_text("__pycache__/\n")
    (folder / "tenants.yaml").write_text(_tenants(changed=0))
    _git(folder, "init", "--quiet", "--initial-branch", "main")
    for base, (name, here, there) in BASES.items():
        file = folder / name
        present = file.read_text()
        file.write_text(present.replace(here, there) if here else present)
        _commit(folder, base)
        _git(folder, "tag", base)
        file.write_text(present)
    (folder / "tenants.yaml").write_text(_tenants(CHANGED))
    _commit(folder, "the change")


def _tenants(changed: int) -> str:
    plans = ["pro" if number % (TENANTS // CHANGED) == 0 and changed else "enterprise" for number in range(TENANTS)]
    entries = (
        f"  - {{id: tenant-{number}, modules: [{MODULES}], plan: {plan}}}\n" for number, plan in enumerate(plans)
    )
    return "tenants:\n" + "".join(entries)


def _commit(folder: Path, message: str) -> None:
    _git(folder, "add", "--all")
    _git(folder, "-c", "user.name=b", "-c", "user.email=b@example", "commit", "--quiet", "--message", message)


def _git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, stdout=subprocess.DEVNULL)


def _seconds(folder: Path, base: str, shape: str) -> float:
    """Return the median seconds of the whole command, run by the repository's own code."""
    command = [sys.executable, "-m", "kryonix", "plan", "--against", base, "--format", shape]
    return median(_timed(command, folder) for _ in range(RUNS))


def _timed(command: list[str], folder: Path) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, check=True)
    seconds = time.perf_counter() - began
    if b"10" not in done.stdout:
        raise AssertionError("the review does not show the changed tenants")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
