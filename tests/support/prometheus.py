"""A real Prometheus in a container, with hours of samples written at once and alerts that fire."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import docker
import httpx
import yaml

from tests.support import promtool
from tests.support.project import free_port
from tests.support.waiting import eventually

__all__ = ["HOUR", "Measured", "example_platform", "prometheus_with"]

_RUN = (
    "promtool tsdb create-blocks-from openmetrics /tmp/samples /tmp/data >/dev/null && exec prometheus "
    "--config.file=/tmp/prometheus.yml --storage.tsdb.path=/tmp/data --storage.tsdb.retention.time=30d"
)


@dataclass(frozen=True)
class Measured:
    """A series: its name and labels, and its value at a moment `age` seconds ago; None where there is no sample."""

    name: str
    value: Callable[[float], float | None]
    labels: Mapping[str, str] = field(default_factory=dict)

    def samples(self, now: float, ages: Iterable[float]) -> Iterator[str]:
        labels = ",".join(f"{name}={json.dumps(text)}" for name, text in self.labels.items())
        for age in ages:
            if (value := self.value(age)) is not None:
                yield f"{self.name}{{{labels}}} {value} {now - age:.3f}\n"


def _openmetrics(series: Iterable[Measured], now: float, ages: list[float]) -> str:
    families: dict[str, list[Measured]] = {}
    for each in series:
        families.setdefault(each.name, []).append(each)
    lines = []
    for name, members in families.items():
        lines.append(f"# TYPE {name} unknown\n")
        lines += [line for member in members for line in member.samples(now, ages)]
    return "".join([*lines, "# EOF\n"])


@contextmanager
def prometheus_with(
    series: Iterable[Measured],
    *,
    hours: float = 2,
    every_s: float = 15,
    ahead_s: float = 0,
    alerts: Iterable[Mapping[str, Any]] = (),
    now: float | None = None,
) -> Iterator[str]:
    """Run a Prometheus that has these series, and in which each of these alerting rules holds; return its address.

    The last sample is `ahead_s` after now, so that a slow test still finds fresh ones.
    """
    ages = [hours * 3600 - step * every_s for step in range(int((hours * 3600 + ahead_s) // every_s) + 1)]
    rules = {
        "groups": [{"name": "test", "interval": "1s", "rules": [{"expr": "vector(1)", **each} for each in alerts]}]
    }
    files = {
        "samples": _openmetrics(series, time.time() if now is None else now, ages),
        "rules.yml": yaml.safe_dump(rules),
        "prometheus.yml": yaml.safe_dump({"rule_files": ["/tmp/rules.yml"]}),
    }
    port = free_port()
    with closing(docker.from_env()) as daemon:
        container = daemon.containers.create(
            promtool.image("prometheus"),
            ["-c", _RUN],
            entrypoint="/bin/sh",
            ports={"9090/tcp": ("127.0.0.1", port)},
            labels={"kryonix.test": "1"},
        )
        try:
            container.put_archive("/", promtool.archived(files, "/tmp"))
            container.start()
            url = f"http://127.0.0.1:{port}"
            eventually(
                "Prometheus is ready", lambda: httpx.get(f"{url}/-/ready").is_success, ignoring=(httpx.HTTPError,)
            )
            expected = len(rules["groups"][0]["rules"])
            eventually("its alerts fire", lambda: len(_firing(url)) == expected, ignoring=(httpx.HTTPError,))
            yield url
        finally:
            container.remove(force=True, v=True)


def _firing(url: str) -> list[Any]:
    alerts = httpx.get(f"{url}/api/v1/alerts").raise_for_status().json()["data"]["alerts"]
    return [each for each in alerts if each["state"] == "firing"]


HOUR = 3600


def of(tenant: str, name: str, value: float, **labels: str) -> Measured:
    return Measured(name, lambda _age: value, {"cliente_id": tenant, **labels})


def counted(tenant: str, name: str, per_s: float, **labels: str) -> Measured:
    return Measured(name, lambda age: round((10 * HOUR - age) * per_s, 3), {"cliente_id": tenant, **labels})


def queue(tenant: str, name: str, ready: float, unacked: float) -> list[Measured]:
    labels = {"vhost": f"/cliente_{tenant}", "queue": f"cliente_{tenant}.{name}"}
    return [
        of(tenant, "rabbitmq_detailed_queue_messages_ready", ready, **labels),
        of(tenant, "rabbitmq_detailed_queue_messages_unacked", unacked, **labels),
        of(tenant, "rabbitmq_detailed_queue_messages", ready + unacked, **labels),
        of(tenant, "rabbitmq_detailed_queue_consumers", 2, **labels),
        counted(tenant, "rabbitmq_detailed_queue_messages_acked_total", 3, **labels),
    ]


def exchange(tenant: str, name: str, per_s: float) -> Measured:
    return counted(tenant, "rabbitmq_detailed_exchange_messages_published_total", per_s, exchange=name)


SERIES = [
    *queue("acme", "crm.leads.create", 10, 2),
    *queue("acme", "crm.leads.update", 30, 1),
    *queue("acme", "crm.leads.create.dlq", 7, 0),
    *queue("acme", "crm.leads.create.retry.1", 400, 0),
    *queue("acme", "unrouted", 4, 0),
    exchange("acme", "cliente_acme", 5),
    exchange("acme", "cliente_acme.mobile_priority", 1),
    exchange("acme", "cliente_acme.crm.dlx", 100),
    exchange("acme", "cliente_acme.unrouted", 100),
    of("acme", "kryonix_tenant_connections", 9),
    of("acme", "kryonix_tenant_channels", 12),
    of("acme", "kryonix_plan_limit", 10, resource="connections"),
    of("acme", "kryonix_plan_limit", 1000, resource="queue_depth"),
    of("acme", "kryonix_plan_limit", 50, resource="queues"),
    *(
        counted("acme", "kryonix_worker_wait_seconds_bucket", rate, module="crm", action="leads.create", le=le)
        for le, rate in (("0.5", 9), ("1", 10), ("+Inf", 10))
    ),
    *queue("acme-2", "crm.leads.create", 5000, 500),
    of("acme-2", "kryonix_tenant_connections", 77),
    Measured(
        "kryonix_tenant_channels",
        lambda age: 3.0 if age < HOUR / 2 else None,
        {"cliente_id": "acme-2", "instance": "exporter:9420"},
    ),
]


def alert(name: str, severity: str, **labels: str) -> dict[str, Any]:
    notes = {
        "summary": f"{name} of 10.1.2.3:5672",
        "description": "more",
        "runbook": "docs/runbooks.md#tenantqueuebacklog",
    }
    return {"alert": name, "labels": {"severity": severity, **labels}, "annotations": notes}


ALERTS = [
    alert("TenantDepth", "warning", cliente_id="acme", modulo="crm", instance="rabbitmq:15692"),
    alert("TenantDepth", "info", cliente_id="acme-2"),
    alert("TenantUnconsumed", "critical", cliente_id="acme-2"),
    alert("BrokerMemory", "critical"),
]


def example_platform() -> AbstractContextManager[str]:
    """Two hours of two tenants, `acme` and `acme-2`, with their alerts and one of the platform."""
    return prometheus_with(SERIES, ahead_s=2 * HOUR, alerts=ALERTS)
