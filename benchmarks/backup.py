"""Measure backups: `python -m benchmarks.backup [--json] [TENANTS]`; default: 100. Needs Docker; takes some minutes.

A platform of its own is filled with tenants with stacks of their own, one in ten with all 8 modules and the others with
3. `kryonix backup create --all` runs as the command, into a folder; beside it, in the same run, one export of all
definitions, which is the least that the broker takes to tell everything. Then every bundle of an 8-module tenant and as
many others are verified by the command, one at a time. Last comes the drill of 20 tenants. Memory is the most that the
command's process had.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.fleet import PREFIX, put, rollout
from benchmarks.platform import platform
from benchmarks.report import Bound, Report
from kryonix.topology.catalog import default_catalog
from tests.support.live_broker import LiveBroker
from tests.support.project import ROOT, Project

ALL: Final = tuple(default_catalog().modules)
THREE: Final = ("crm", "whatsapp", "agendamento")
EVERY: Final = 10
"""One tenant of so many has all modules."""
EXPORTS: Final = 5
BROKER_MEMORY_MB: Final = 4096
DRILL_TENANTS: Final = 20
MIB: Final = 1024


def main() -> int:
    given = [argument for argument in sys.argv[1:] if argument != "--json"]
    tenants = int(given[0]) if given else 100
    figures = {"tenants": float(tenants), "load_at_start": os.getloadavg()[0]}
    with platform(brokerMemoryMb=BROKER_MEMORY_MB) as project, tempfile.TemporaryDirectory() as folder:
        dsn = str(project.outputs()["registry_dsn"])
        large = [number for number in range(tenants) if number % EVERY == 0]
        put(dsn, tenants, lambda number: ALL if number in large else THREE)
        rollout(project, 2)
        figures["definitions_export_s"] = median(exported(project) for _ in range(EXPORTS))
        figures |= backed_up(project, Path(folder), large)
        figures |= verified(project, Path(folder), large)
    figures["drill_s"] = drilled()
    bounds = [
        Bound(f"{tenants} tenants backed up, s", figures["create_all_s"], 60),
        Bound("a late tenant / an early one", figures["late_s"] / figures["early_s"], 1.3),
        Bound("an 8-module tenant verified, the slowest, s", figures["verify_8_modules_most_s"], 5),
        Bound("a 3-module tenant verified, the slowest, s", figures["verify_3_modules_most_s"], 5),
        Bound("memory of `create --all`, MiB", figures["create_all_mib"], 200),
        Bound("memory of `verify`, MiB", figures["verify_most_mib"], 200),
        Bound(f"drill of {DRILL_TENANTS} tenants, s", figures["drill_s"], 180),
    ]
    return Report("backups", figures, bounds).print()


def exported(project: Project) -> float:
    """Return the seconds of one export of all definitions."""
    with LiveBroker(project.outputs()) as broker:
        began = time.perf_counter()
        broker.get("definitions")
        return time.perf_counter() - began


def backed_up(project: Project, folder: Path, large: Sequence[int]) -> dict[str, float]:
    """Back up everything, and return the seconds of all, of early and late equal tenants, and the memory."""
    made = json.loads(run(project, "keygen", str(folder / "key"), "--json")[0])
    options = ("--all", "--to", str(folder / "store"), "--recipient", made["recipient"], "--json")
    text, took, mib = run(project, "create", *platform_of(project), *options)
    listed = json.loads(text)
    seconds = {each["subject"]: each["seconds"] for each in listed if each["kind"] == "tenant"}
    alike = [seconds[subject] for subject in sorted(seconds) if int(subject.removeprefix(PREFIX)) not in large]
    third = max(1, len(alike) // 3)
    return {
        "create_all_s": took,
        "create_all_mib": mib,
        "bundle_bytes_most": max(each["bytes"] for each in listed if each["kind"] == "tenant"),
        "platform_bundle_bytes": max(each["bytes"] for each in listed if each["kind"] == "platform"),
        "early_s": median(alike[:third]),
        "late_s": median(alike[-third:]),
    }


def verified(project: Project, folder: Path, large: Sequence[int]) -> dict[str, float]:
    """Verify the bundles of all large tenants, and of as many small ones, and return seconds and memory at most."""
    figures = {"verify_most_mib": 0.0}
    for modules, numbers in ((len(ALL), large), (len(THREE), [number + 1 for number in large])):
        seconds = []
        for number in numbers:
            options = ("--from", str(folder / "store"), "--identity", str(folder / "key"), "--json")
            text, _, mib = run(project, "verify", f"tenants/{PREFIX}{number:03}", *platform_of(project), *options)
            seconds.append(json.loads(text)[0]["seconds"])
            figures["verify_most_mib"] = max(figures["verify_most_mib"], mib)
        figures |= {f"verify_{modules}_modules_s": median(seconds), f"verify_{modules}_modules_most_s": max(seconds)}
    return figures


def platform_of(project: Project) -> tuple[str, ...]:
    return ("--stack", project.stack, "--engine", "local")


def run(project: Project, *arguments: str) -> tuple[str, float, float]:
    """Run `kryonix backup`; return what it printed, its seconds, and the most memory of its process in MiB."""
    began = time.perf_counter()
    with subprocess.Popen(
        project.command("backup", *arguments),
        cwd=project.folder,
        env=project.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        text = process.stdout.read() if process.stdout else ""
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"backup {arguments[0]} ended with {process.returncode}")
    return text, time.perf_counter() - began, used.ru_maxrss / MIB


def drilled() -> float:
    """Return the seconds from the loss to messages that flow."""
    command = [str(ROOT / "scripts" / "drill"), "--json", str(DRILL_TENANTS)]
    report: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=False).stdout)
    return float(report["bounds"][0]["value"])


if __name__ == "__main__":
    sys.exit(main())
