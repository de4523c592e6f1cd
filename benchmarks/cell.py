"""Measure the load one broker carries: `python -m benchmarks.cell [--json]`. Needs Docker; takes about ten minutes.

A platform of its own, with this project's broker settings, is filled with idle 8-module tenants, imported as
definitions because that is fast. At each step the broker is left to settle; then its memory, processes, files, disk and
idle CPU are read, and what the management API takes to list all queues. In the end the broker is restarted with
everything in it. What a queue costs is the slope of a line through the steps, so that the empty broker's own share is
not in it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from statistics import linear_regression, median
from typing import Any, Final

import docker
import httpx

from benchmarks.broker import Broker
from benchmarks.platform import platform
from benchmarks.report import Bound, Report
from kryonix.topology.catalog import default_catalog
from kryonix.topology.expansion import Topology, expand
from kryonix.topology.tenants import Tenant
from tests.support.containers import output_of
from tests.support.project import Project

CATALOG: Final = default_catalog()
STEPS: Final = (1, 5, 10, 20, 30, 40)
"""Tenants in the broker, 87 queues each."""

BROKER_MEMORY_MB: Final = 3072
SETTLE_S, WATCH_S, START_TIMEOUT_S = 15.0, 15.0, 900.0
MIB: Final = 1024 * 1024


class Filling(Broker):
    """Import a tenant and keep it."""

    def _took(self, began: float, topology: Topology) -> float:
        return time.perf_counter() - began


@dataclass(frozen=True, slots=True)
class Reading:
    """An idle broker. `memory_mib` is what the broker compares with its limit, `cpu_percent` of one core."""

    queues: int
    memory_mib: float
    processes: int
    files: int
    disk_mib: float
    cpu_percent: float
    listing_s: float


class Cell:
    """One broker and its container."""

    def __init__(self, project: Project, outputs: Mapping[str, Any]) -> None:
        credentials = (outputs["admin_username"], outputs["admin_password"])
        self._http = httpx.Client(base_url=f"{outputs['management_url']}/api/", auth=credentials, timeout=120)
        self._container = docker.from_env().containers.get(f"kryonix-{project.stack}-rabbitmq")

    def read(self) -> Reading:
        """Let the broker settle, watch it, and say what it takes."""
        time.sleep(SETTLE_S)
        began, used = time.monotonic(), self._cpu_ns()
        time.sleep(WATCH_S)
        cpu_percent = (self._cpu_ns() - used) / ((time.monotonic() - began) * 1e9) * 100
        node = self._get("nodes")[0]
        asked = time.perf_counter()
        queues = self._get("queues?disable_stats=true&enable_queue_totals=true")
        return Reading(
            queues=len(queues),
            memory_mib=node["mem_used"] / MIB,
            processes=node["proc_used"],
            files=node["fd_used"],
            disk_mib=self._disk_mib(),
            cpu_percent=cpu_percent,
            listing_s=time.perf_counter() - asked,
        )

    @property
    def short_of_memory(self) -> bool:
        """Whether publishers are blocked, or will be with a few tenants more."""
        node = self._get("nodes")[0]
        return bool(node["mem_alarm"]) or node["mem_used"] > 0.9 * node["mem_limit"]

    def restart(self, queues: int) -> float:
        """Seconds from a broker's orderly end to all its queues having a leader again."""
        self._container.stop(timeout=120)
        began = time.perf_counter()
        self._container.start()
        while time.perf_counter() - began < START_TIMEOUT_S:
            if self._with_leader() >= queues:
                return time.perf_counter() - began
            time.sleep(0.5)
        raise TimeoutError(f"{queues} queues had no leader {START_TIMEOUT_S:.0f} s after the broker's start")

    def _with_leader(self) -> int:
        try:
            found = self._get("queues?disable_stats=true&enable_queue_totals=true")
        except httpx.HTTPError:
            return 0
        return sum(bool(queue.get("leader")) for queue in found)

    def _get(self, path: str) -> Any:
        return self._http.get(path).raise_for_status().json()

    def _cpu_ns(self) -> int:
        return int(self._container.stats(stream=False, one_shot=True)["cpu_stats"]["cpu_usage"]["total_usage"])

    def _disk_mib(self) -> float:
        return int(output_of(self._container, "du", "-sk", "/var/lib/rabbitmq").split()[0]) / 1024


def main() -> int:
    began_with_load = os.getloadavg()[0]
    with platform(brokerMemoryMb=BROKER_MEMORY_MB) as project:
        outputs = project.outputs()
        cell, broker = Cell(project, outputs), Filling(outputs)
        readings, imports = [cell.read()], list[float]()
        for tenants in STEPS:
            imports += fill(broker, len(imports), tenants)
            readings.append(cell.read())
            tell(readings[-1])
            if cell.short_of_memory:
                break
        restart_s = cell.restart(readings[-1].queues)
    figures = {"load_at_start": began_with_load, "broker_memory_limit_mib": float(BROKER_MEMORY_MB)}
    figures |= {f"{reading.queues}_queues_{name}": value for reading in readings for name, value in steps(reading)}
    figures |= slopes(readings) | import_figures(imports)
    figures |= {f"restart_with_{readings[-1].queues}_queues_s": restart_s}
    most = readings[-1]
    bounds = [
        Bound("processes per queue", figures["processes_per_queue"], 10),
        Bound("late import / early import", figures["import_last_5_s"] / figures["import_first_5_s"], 1.5),
        Bound("memory of the limit with the most queues", most.memory_mib / BROKER_MEMORY_MB, 0.6),
    ]
    return Report("an idle broker filled with 8-module tenants", figures, bounds).print()


def fill(broker: Broker, made: int, wanted: int) -> Iterator[float]:
    """Import tenants up to a number, and yield the seconds of each."""
    for number in range(made, wanted):
        tenant = Tenant(id=f"cell-{number:03}", modules=tuple(CATALOG.modules), plan="enterprise")
        yield broker.import_definitions(expand(tenant, CATALOG))


def steps(reading: Reading) -> Iterator[tuple[str, float]]:
    return ((name, float(value)) for name, value in asdict(reading).items() if name != "queues")


def slopes(readings: list[Reading]) -> dict[str, float]:
    """Return the cost of one more queue: the slope of a line through all readings with tenants."""
    filled = readings[1:]
    queues = [reading.queues for reading in filled]

    def slope(name: str) -> float:
        return linear_regression(queues, [float(getattr(reading, name)) for reading in filled]).slope

    return {
        "memory_kib_per_queue": slope("memory_mib") * 1024,
        "processes_per_queue": slope("processes"),
        "files_per_queue": slope("files"),
        "disk_kib_per_queue": slope("disk_mib") * 1024,
        "idle_cpu_percent_per_1000_queues": slope("cpu_percent") * 1000,
        "listing_s_per_1000_queues": slope("listing_s") * 1000,
    }


def import_figures(imports: list[float]) -> dict[str, float]:
    return {
        "import_median_s": median(imports),
        "import_first_5_s": median(imports[:5]),
        "import_last_5_s": median(imports[-5:]),
    }


def tell(reading: Reading) -> None:
    """Print progress on standard error; the report is on standard output."""
    print(reading, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
