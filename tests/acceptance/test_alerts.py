"""Alerts of a real platform arrive at a webhook for the tenant that caused them, for it alone, and resolve."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from aio_pika.exceptions import DeliveryError

from kryonix.topology.catalog import default_catalog
from tests.support.amqp import Application, publish, take
from tests.support.notices import Notices, receiver
from tests.support.project import ROOT, Project, free_port, tenant
from tests.support.relabelling import JOBS
from tests.support.scrapes import record, recorded
from tests.support.waiting import eventually

CATALOG = default_catalog()
BASIC = CATALOG.plans["basic"]
THREE = ("crm", "whatsapp", "agendamento")
ACTION = ("crm", "leads.create")
KEY = "crm.leads.create.medium"

EXPORTER_PORT = free_port()

FASTER = {
    "prometheus.yml": {
        r"(interval): 15s": r"\1: 1s",
        r"(scrape_timeout): 10s": r"\1: 1s",
        r"(scrape_interval): 1m": r"\1: 2s",
    },
    "alertmanager.yml": {r"group_wait: \d+s": "group_wait: 0s", r"group_interval: 1m": "group_interval: 1s"},
    "rules/*.yaml": {r"(for): \d+[mh]$": r"\1: 0s", r"\[(?:5|10)m\]": "[20s]"},
}
"""What makes the files quick enough for a test: the expressions stay, but for their ranges."""


def quickened(folder: Path, exporter: str) -> None:
    """Give a project a copy of `components` with the faster files, and the exporter's address."""
    components = folder / "components"
    components.unlink()
    shutil.copytree(ROOT / "components", components)
    for pattern, changes in FASTER.items():
        for file in (components / "monitoring_files").glob(pattern):
            text = file.read_text(encoding="utf-8").replace("exporter:9420", exporter)
            for old, new in changes.items():
                text = re.sub(old, new, text, flags=re.MULTILINE)
            file.write_text(text, encoding="utf-8")


class Exporter:
    """`kryonix exporter` of a platform, at an address that containers reach."""

    def __init__(self, project: Project, host: str, port: int) -> None:
        options = ["--host", host, "--port", str(port), "--interval", "1", "--slow-interval", "5"]
        self._command = project.command("exporter", "--stack", project.stack, "--engine", "local", *options)
        self._project = project
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        folder, env = self._project.folder, self._project.env
        self._process = subprocess.Popen(self._command, cwd=folder, env=env, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@pytest.fixture(scope="module")
def notices() -> Iterator[Notices]:
    with receiver() as found:
        yield found


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, notices: Notices) -> Iterator[Project]:
    """A platform with monitoring, and four tenants: `acme` and `acme-2` have the same queues."""
    project = Project.platform(
        tmp_path_factory.mktemp("alerts") / "project",
        tenant("acme", "crm", plan="basic"),
        tenant("acme-2", "crm", plan="basic"),
        tenant("large", *CATALOG.modules),
        tenant("small", *THREE, plan="pro"),
        monitoring=True,
        prometheusPort=free_port(),
        alertmanagerPort=free_port(),
        alertWebhook=notices.url,
        receiveTime=True,
    )
    quickened(project.folder, f"{notices.host}:{EXPORTER_PORT}")
    with project.running():
        yield project


@pytest.fixture(scope="module", autouse=True)
def exporter(platform: Project, notices: Notices) -> Iterator[Exporter]:
    found = Exporter(platform, notices.host, EXPORTER_PORT)
    found.start()
    yield found
    found.kill()


@pytest.fixture(scope="module")
def outputs(platform: Project) -> dict[str, Any]:
    return platform.outputs()


class Prometheus:
    """The platform's Prometheus."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=f"{url}/api/v1/", timeout=30, trust_env=False)

    def get(self, path: str, **parameters: str) -> Any:
        return self._client.get(path, params=parameters).raise_for_status().json()["data"]

    def value(self, query: str) -> float | None:
        """Return the first result of a query."""
        found = self.get("query", query=query)["result"]
        return float(found[0]["value"][1]) if found else None

    def shows(self, query: str, value: float) -> bool:
        return self.value(query) == value

    def close(self) -> None:
        self._client.close()


@pytest.fixture(scope="module")
def prometheus(outputs: dict[str, Any]) -> Iterator[Prometheus]:
    found = Prometheus(outputs["prometheus_url"])
    yield found
    found.close()


def container(platform: Project, role: str) -> Any:
    (found,) = [each for each in platform.containers() if each.name == f"kryonix-{platform.stack}-{role}"]
    return found


async def send(app: Application, count: int, key: str = KEY) -> int:
    """Publish messages one after another; return how many the broker refused."""
    refused = 0
    async with app.account.channel() as channel:
        for _ in range(count):
            try:
                await publish(channel, app.name(), key)
            except DeliveryError:
                refused += 1
    return refused


async def use_every_queue(app: Application, modules: tuple[str, ...]) -> None:
    """Publish through each exchange, and consume, reject and acknowledge in each queue."""
    async with app.account.channel() as channel:
        for name in modules:
            module = CATALOG.modules[name]
            for action in module.actions:
                await publish(channel, app.name(), f"{name}.{action}.medium")
                if module.mobile_priority:
                    await publish(channel, app.name("mobile_priority"), f"mobile.{name}.{action}")
                if module.business_critical:
                    await publish(channel, app.name("business_critical"), f"critical.{name}.{action}")
                await (await take(channel, app.name(name, action))).ack()
                await publish(channel, app.name(), f"{name}.{action}.high")
        await publish(channel, app.name("automation"))
        for exchange in (app.name(), app.name("mobile_priority")):
            await publish(channel, exchange, "nobody.here")
    async with app.admin.channel() as channel:
        for name in modules:
            for action in CATALOG.modules[name].actions:
                await (await take(channel, app.name(name, action))).reject(requeue=False)
                await (await take(channel, app.name(name, action, "dlq"))).ack()
    await app.empty()


def test_series_of_a_tenant_are_bounded_with_every_queue_in_use(
    outputs: dict[str, Any], prometheus: Prometheus
) -> None:
    """Every job's series count; alerts' own don't, and neither do workers, which are the tenant's."""
    large, small = Application.of(outputs, "large"), Application.of(outputs, "small")
    asyncio.run(use_every_queue(large, tuple(CATALOG.modules)))
    asyncio.run(use_every_queue(small, THREE))
    for app, queues, most in ((large, 43, 1200), (small, 18, 450)):
        own = f'{{cliente_id="{app.id}",job!=""}}'
        acked = f'count(rabbitmq_detailed_queue_messages_acked_total{{cliente_id="{app.id}"}})'
        eventually("each queue has been consumed", partial(prometheus.shows, acked, 2 * queues))
        sizes = f'count(rabbitmq_detailed_queue_messages_bytes{{cliente_id="{app.id}"}})'
        eventually("sizes are scraped", partial(prometheus.value, sizes))
        eventually("limits are scraped", partial(prometheus.value, f"count(kryonix_plan_limit{own})"))
        count = prometheus.value(f"count({own})")
        print(f"{app.id}: {count:.0f} series")
        assert count is not None
        assert 5 * queues < count <= most
    assert prometheus.value('count({__name__=~"rabbitmq_detailed_raft.+"})') is None


def test_the_recorded_scrapes_are_the_brokers(outputs: dict[str, Any], prometheus: Prometheus) -> None:
    """Rules and dashboards are checked against the records: they must be what Prometheus really stores."""
    asyncio.run(use_every_queue(Application.of(outputs, "small"), THREE))
    names = {name for name in recorded() if name.startswith("rabbitmq_detailed_")} - {"rabbitmq_detailed_queue_info"}

    def stored() -> list[dict[str, str]] | None:
        found = prometheus.get("series", **{"match[]": '{job!=""}', "start": str(time.time() - 300)})
        return list(found) if names <= {each["__name__"] for each in found} else None

    series = eventually("every metric is stored", stored)
    if os.environ.get("KRYONIX_RECORD"):
        for job in JOBS:
            kept = [
                each for each in series if each["job"] == job and not each["__name__"].startswith(("scrape_", "ALERTS"))
            ]
            if job in ("prometheus", "alertmanager"):
                kept = [each for each in kept if each["__name__"].startswith(job) and "_bucket" not in each["__name__"]]
            record(job, kept)
    shapes = {(each["__name__"], frozenset(each) - {"__name__", "job", "instance"}) for each in series}
    broker = {name: labels for name, labels in shapes if name.startswith(("rabbitmq_", "erlang_"))}
    missing = {name for name in recorded() if name.startswith(("rabbitmq_", "erlang_"))} - broker.keys()
    assert missing <= {"rabbitmq_detailed_queue_info"}, "KRYONIX_RECORD=1 records the scrapes again"
    unknown = {name for name, labels in shapes if not labels <= recorded().get(name, frozenset()) and name in broker}
    assert unknown == set(), "KRYONIX_RECORD=1 records the scrapes again"


def test_a_tenants_alerts_come_for_it_alone_and_resolve(
    outputs: dict[str, Any], notices: Notices, prometheus: Prometheus
) -> None:
    acme, twin = Application.of(outputs, "acme"), Application.of(outputs, "acme-2")
    queue = acme.name(*ACTION)
    own = {"cliente_id": "acme", "modulo": "crm", "acao": "leads.create", "queue": queue}
    eventually("limits are scraped", lambda: prometheus.value('kryonix_plan_limit{cliente_id="acme-2"}'))

    async def cause() -> None:
        async with AsyncExitStack() as opened:
            for _ in range(9):
                await opened.enter_async_context(await acme.account.connect())
            await asyncio.to_thread(notices.came, "TenantConnectionsNearLimit", cliente_id="acme")
        assert await send(twin, 1) == 0
        assert await send(acme, 1, "nobody.here") == 0
        assert await send(acme, BASIC.scaling.scale_up_threshold + 5) == 0
        async with acme.account.channel() as channel:
            await (await take(channel, queue)).reject(requeue=False)
        came = ("TenantQueueBacklog", "TenantQueueWithoutConsumer")
        await asyncio.to_thread(notices.came, *came, **own)
        await asyncio.to_thread(notices.came, "TenantDeadLettersGrowing", **(own | {"queue": f"{queue}.dlq"}))
        await asyncio.to_thread(notices.came, "TenantMessagesUnrouted", cliente_id="acme")
        assert await send(acme, int(0.8 * BASIC.scaling.max_queue_depth)) == 0
        await asyncio.to_thread(notices.came, "TenantQueueNearDepthLimit", **own)
        assert await send(acme, int(0.4 * BASIC.scaling.max_queue_depth)) > 0
        await asyncio.to_thread(notices.came, "TenantPublishesRefused", **own)
        await acme.empty()
        await twin.empty()

    asyncio.run(cause())
    for name in {labels["alertname"] for labels in notices.all() if labels.get("cliente_id") == "acme"}:
        notices.over(name, cliente_id="acme")
    others = [labels for labels in notices.all() if labels.get("cliente_id") == "acme-2"]
    assert {labels["alertname"] for labels in others} <= {"TenantQueueWithoutConsumer"}, "it has had one message"


@pytest.fixture
def customer() -> Iterator[Notices]:
    with receiver() as found:
        yield found


def test_a_tenant_added_live_is_covered_without_a_reload(
    platform: Project, notices: Notices, customer: Notices, prometheus: Prometheus
) -> None:
    loaded = prometheus.value("prometheus_config_last_reload_success_timestamp_seconds")
    created = platform.kryonix(
        "tenant",
        "create",
        "nova",
        "--modules",
        "crm",
        "--plan",
        "basic",
        "--notify-webhook",
        customer.url,
        "--json",
        "--stack",
        platform.stack,
        "--engine",
        "local",
    )
    assert created.returncode == 0, created.stderr
    stack = platform.beside("tenant-nova")
    nova = Application.of(stack.administered(), "nova")
    asyncio.run(send(nova, BASIC.scaling.scale_up_threshold + 1))
    for each in (notices, customer):
        each.came("TenantQueueBacklog", cliente_id="nova")
    asyncio.run(nova.empty())
    for each in (notices, customer):
        each.over("TenantQueueBacklog", cliente_id="nova")
    assert {(labels["cliente_id"], labels["audience"]) for labels in customer.all()} == {("nova", "tenant")}
    assert prometheus.value("prometheus_config_last_reload_success_timestamp_seconds") == loaded


def test_a_killed_exporter_is_noticed_and_its_return_too(
    exporter: Exporter, notices: Notices, prometheus: Prometheus
) -> None:
    eventually("it is scraped", partial(prometheus.shows, 'up{job="kryonix-exporter"}', 1))
    notices.over("KryonixExporterDown")  # the platform came up before it
    exporter.kill()
    try:
        notices.fires("KryonixExporterDown")
    finally:
        exporter.start()
    notices.over("KryonixExporterDown")


def check(platform: Project) -> tuple[int, list[dict[str, str]]]:
    """Return the exit status of `kryonix check`, and what did not pass."""
    done = platform.kryonix("check", "--json", "--stack", platform.stack, "--engine", "local")
    findings = json.loads(done.stdout)["findings"]
    return done.returncode, [each for each in findings if each["outcome"] in ("fail", "unreachable")]


def test_the_check_names_a_target_that_is_down(
    platform: Project, exporter: Exporter, outputs: dict[str, Any], prometheus: Prometheus
) -> None:
    eventually("it is scraped", partial(prometheus.shows, 'up{job="kryonix-exporter"}', 1))
    eventually("a check finds nothing", lambda: check(platform) == (0, []))
    exporter.kill()
    try:
        eventually("it is down", partial(prometheus.shows, 'up{job="kryonix-exporter"}', 0))
        status, (found,) = check(platform)
    finally:
        exporter.start()
    assert (status, found["check"], found["outcome"]) == (1, "monitoring", "fail")
    assert found["why"].startswith("the target kryonix-exporter at http://")
    assert found["remedy"].endswith(f"see {outputs['prometheus_url']}/targets")


def test_a_stopped_prometheus_ends_the_check_with_3_and_top_goes_on(platform: Project) -> None:
    server = container(platform, "prometheus")
    server.stop(timeout=0)
    try:
        status, (found,) = check(platform)
        shown = platform.kryonix("top", "--json", "--stack", platform.stack, "--engine", "local")
    finally:
        server.start()
    assert (status, found["check"], found["outcome"]) == (3, "monitoring", "unreachable")
    top = json.loads(shown.stdout)
    assert (shown.returncode, [*top["problems"]]) == (3, ["Prometheus of cell main"])
    assert {"acme", "large"} <= {row["tenant"] for row in top["tenants"] if row["depth"] is not None}


def test_a_killed_broker_is_noticed_and_its_return_too(platform: Project, notices: Notices) -> None:
    broker = container(platform, "rabbitmq")
    broker.stop(timeout=0)
    try:
        notices.fires("BrokerDown")
    finally:
        broker.start()
    notices.over("BrokerDown")
    assert not [labels for labels in notices.all() if labels["alertname"] == "KryonixRulesFailing"]
