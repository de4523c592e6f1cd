"""Measure what watching tenants costs: `python -m benchmarks.monitoring [--json]`. Needs Docker; takes some minutes.

A platform of its own is filled with tenants: 1, 20 and 100. One in ten has all 8 modules, the others have 3. They are
imported as definitions, because that is fast, and entered in the registry. Messages are published to and taken from
every queue, so that the broker has every series of a tenant, and each tenant has two open connections. At each step
every job of the project's Prometheus configuration is scraped as Prometheus does it, and the broker's own
`/metrics/per-object` beside it. `kryonix exporter` runs as the command; its CPU and memory are read from Linux. Seconds
are the median of some scrapes; `_fastest_s` is what other work on the machine disturbs least.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

import httpx
import pika

from benchmarks.cell import Filling
from benchmarks.platform import platform
from benchmarks.report import Bound, Report
from kryonix.registry.connection import connect
from kryonix.registry.desired_states import DesiredState, mark_applied, put_desired_state
from kryonix.topology.catalog import default_catalog
from kryonix.topology.expansion import Topology, expand
from kryonix.topology.naming import Names
from kryonix.topology.tenants import Tenant
from tests.support.project import Project, free_port
from tests.support.relabelling import JOBS, exposed, kept
from tests.support.waiting import eventually

CATALOG: Final = default_catalog()
ALL: Final = tuple(CATALOG.modules)
THREE: Final = ("crm", "whatsapp", "agendamento")
STEPS: Final = (1, 20, 100)
SCRAPES: Final = 9
CONNECTIONS: Final = 2
"""Open connections of each tenant, with one channel."""

SCRAPED: Final = ("broker", "tenants", "tenant_bytes", "exporter")
"""The jobs, as the figures name them."""

BROKER_MEMORY_MB: Final = 3072
INTERVAL_S, WATCH_S, SETTLE_S = 15.0, 60.0, 10.0
MOST_SERIES: Final = {ALL: 1_200, THREE: 450}
MIB: Final = 1024 * 1024


class Scraped:
    """Every endpoint of the platform, scraped some times."""

    def __init__(self, outputs: Mapping[str, Any], exporter: str) -> None:
        self._broker, self._exporter = str(outputs["metrics_url"]), exporter
        self._http = httpx.Client(timeout=300)

    def figures(self) -> tuple[dict[str, float], Counter[str]]:
        """Return seconds, bytes and series; and the series of each tenant."""
        figures, tenants = dict[str, float](), Counter[str]()
        for job, path, params in self._jobs():
            took, text = self._scrape(path, params)
            stored = [labels for series in exposed(text) if (labels := kept(job, series)) is not None]
            tenants.update(labels["cliente_id"] for labels in stored if "cliente_id" in labels)
            name = job.removeprefix("kryonix-").replace("-", "_")
            figures |= _figures(name, took, text, len(stored))
        took, text = self._scrape(f"{self._broker}/per-object")
        figures |= _figures("per_object", took, text, sum(1 for line in text.splitlines() if line and line[0] != "#"))
        return figures, tenants

    def _jobs(self) -> Iterator[tuple[str, str, Any]]:
        for name in ("kryonix-broker", "kryonix-tenants", "kryonix-tenant-bytes"):
            path = JOBS[name].get("metrics_path", "/metrics").removeprefix("/metrics")
            yield name, f"{self._broker}{path}", JOBS[name].get("params")
        yield "kryonix-exporter", self._exporter, None

    def _scrape(self, url: str, params: Any = None) -> tuple[list[float], str]:
        """Return the seconds of each scrape until all of the answer is here, and the text."""
        took, text = [], ""
        for _ in range(SCRAPES):
            began = time.perf_counter()
            text = self._http.get(url, params=params).raise_for_status().text
            took.append(time.perf_counter() - began)
        return took, text


def _figures(name: str, took: list[float], text: str, series: int) -> dict[str, float]:
    return {
        f"{name}_s": median(took),
        f"{name}_fastest_s": min(took),
        f"{name}_mib": len(text) / MIB,
        f"{name}_series": float(series),
    }


class Filled:
    """A platform that gets more and more tenants, each with all its queues used and connections open."""

    def __init__(self, outputs: Mapping[str, Any], closing: ExitStack) -> None:
        self._outputs, self._closing, self._broker = outputs, closing, Filling(outputs)
        self.tenants: dict[str, tuple[str, ...]] = {}

    def up_to(self, wanted: int) -> None:
        for number in range(len(self.tenants), wanted):
            modules = ALL if number % 10 == 0 else THREE
            tenant = Tenant(id=f"watch-{number:03}", modules=modules, plan="enterprise")
            topology = expand(tenant, CATALOG)
            self._broker.import_definitions(topology)
            self._register(tenant)
            self._use(topology, Names(tenant.id))
            self.tenants[tenant.id] = modules

    def _register(self, tenant: Tenant) -> None:
        state = DesiredState(cliente_id=tenant.id, modules=tuple(tenant.modules), plan=tenant.plan)
        with connect(str(self._outputs["registry_dsn"])) as connection:
            mark_applied(connection, put_desired_state(connection, state))

    def _use(self, topology: Topology, names: Names) -> None:
        """Publish by every binding and without one, take a message of every queue, and leave the connections open."""
        connections = [self._connect(topology.vhost) for _ in range(CONNECTIONS)]
        for connection in connections:
            self._closing.callback(connection.close)
        channel, *_ = [connection.channel() for connection in connections]
        channel.confirm_delivery()
        for binding in topology.bindings:
            channel.basic_publish(binding.source, binding.routing_key, b"x" * 100)
        channel.basic_publish(names.exchange, "without.a.binding", b"x" * 100)
        channel.basic_qos(prefetch_count=1)
        for queue in topology.queues:
            method, _, _ = next(channel.consume(queue.name))
            channel.basic_ack(method.delivery_tag)
            channel.cancel()

    def _connect(self, vhost: str) -> pika.BlockingConnection:
        credentials = pika.PlainCredentials(self._outputs["admin_username"], self._outputs["admin_password"])
        return pika.BlockingConnection(
            pika.ConnectionParameters(
                host=self._outputs["amqp_host"],
                port=int(self._outputs["amqp_port"]),
                virtual_host=vhost,
                credentials=credentials,
                heartbeat=0,
            )
        )


def main() -> int:
    figures: dict[str, float] = {"load_at_start": os.getloadavg()[0]}
    most = dict.fromkeys(MOST_SERIES, 0)
    with platform(brokerMemoryMb=BROKER_MEMORY_MB) as project, ExitStack() as closing:
        outputs = project.outputs()
        filled = Filled(outputs, closing)
        for tenants in STEPS:
            filled.up_to(tenants)
            scraped, per_tenant = step(project, outputs, tenants)
            for tenant, modules in filled.tenants.items():
                most[modules] = max(most[modules], per_tenant[tenant])
            figures |= {f"{tenants}_tenants_{name}": value for name, value in scraped.items()}
            print(f"{tenants} tenants: {scraped}", file=sys.stderr, flush=True)
    figures |= {f"most_series_{len(modules)}_modules": float(series) for modules, series in most.items()}
    last = f"{STEPS[-1]}_tenants"
    bounds = [
        Bound(f"{STEPS[-1]} tenants scraped, all jobs one after the other, s", figures[f"{last}_scrape_s"], 2),
        Bound("tenants' job / per-object, s", figures[f"{last}_tenants_s"] / figures[f"{last}_per_object_s"], 1),
        *(
            Bound(f"series of a tenant with {len(modules)} modules", most[modules], bound)
            for modules, bound in MOST_SERIES.items()
        ),
    ]
    return Report("watching tenants", figures, bounds).print()


def step(project: Project, outputs: Mapping[str, Any], tenants: int) -> tuple[dict[str, float], Counter[str]]:
    """Return the figures with so many tenants, and the series of each."""
    with exporter(project) as (url, pid):
        eventually("the exporter has every tenant", lambda: all_there(url, tenants), 600)
        time.sleep(SETTLE_S)
        scraped, per_tenant = Scraped(outputs, url).figures()
        scraped |= watch(pid)
    for unit in ("s", "fastest_s"):
        scraped[f"scrape_{unit}"] = sum(scraped[f"{job}_{unit}"] for job in SCRAPED)
    return scraped, per_tenant


@contextmanager
def exporter(project: Project) -> Iterator[tuple[str, int]]:
    """Run `kryonix exporter`; yield its address and process."""
    port = free_port()
    command = project.command("exporter", "--stack", project.stack, "--engine", "local", "--port", str(port))
    with subprocess.Popen(
        [*command, "--interval", str(INTERVAL_S)],
        cwd=project.folder,
        env=project.env,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield f"http://127.0.0.1:{port}/metrics", process.pid
        finally:
            process.kill()


def all_there(url: str, tenants: int) -> bool:
    try:
        text = httpx.get(url, timeout=60).text
    except httpx.HTTPError:
        return False
    wanted = ("kryonix_tenant_info{", "kryonix_tenant_connections{", "kryonix_tenant_drifted{")
    return all(text.count(f"\n{name}") == tenants for name in wanted)


def watch(pid: int) -> dict[str, float]:
    """Return the exporter's CPU over some intervals, in percent of a core, and its memory at most."""
    began, used = time.monotonic(), cpu_s(pid)
    time.sleep(WATCH_S)
    percent = (cpu_s(pid) - used) / (time.monotonic() - began) * 100
    (kib,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return {"exporter_cpu_percent": percent, "exporter_memory_mib": int(kib) / 1024}


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
