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

WORKER_PORT = free_port()

FASTER = {
    "exporter_container.py": {r"\*args\.options": '"--interval", "1", "--slow-interval", "5", *args.options'},
    "monitoring_files/prometheus.yml": {
        r"(scrape_interval|scrape_timeout): 1[05]s": r"\1: 2s",
        r"evaluation_interval: 15s": "evaluation_interval: 1s",
        r"scrape_interval: 1m": "scrape_interval: 4s",
        r"job_name: kryonix-broker$": "job_name: kryonix-broker\n    scrape_interval: 5s\n    scrape_timeout: 5s",
    },
    "monitoring_files/alertmanager.yml": {
        r"group_wait: \d+s": "group_wait: 0s",
        r"group_interval: 1m": "group_interval: 1s",
    },
    "monitoring_files/rules/*.yaml": {r"(for): \d+[mh]$": r"\1: 0s", r"\[(?:5|10)m\]": "[20s]"},
}
"""What makes the platform quick enough for a test. The rules' expressions stay, but for their ranges."""


def quickened(folder: Path) -> None:
    """Give a project a copy of `components` with the faster files."""
    components = folder / "components"
    components.unlink()
    shutil.copytree(ROOT / "components", components)
    for pattern, changes in FASTER.items():
        for file in components.glob(pattern):
            text = file.read_text(encoding="utf-8")
            for old, new in changes.items():
                text = re.sub(old, new, text, flags=re.MULTILINE)
            file.write_text(text, encoding="utf-8")


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
        workerTargets=[f"{notices.host}:{WORKER_PORT}"],
    )
    quickened(project.folder)
    with project.running():
        yield project


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


async def send(app: Application, count: int, key: str = KEY, body: bytes = b"x") -> int:
    """Publish messages, 50 at a time; return how many the broker refused. A queue takes what was on its way."""
    refused = 0
    async with app.account.channel() as channel:
        for begun in range(0, count, 50):
            batch = [publish(channel, app.name(), key, body) for _ in range(min(50, count - begun))]
            for result in await asyncio.gather(*batch, return_exceptions=True):
                assert result is None or isinstance(result, DeliveryError), result
                refused += result is not None
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
                connection = await opened.enter_async_context(await acme.account.connect())
                for _ in range(10):
                    await connection.channel()
            limits = ("TenantConnectionsNearLimit", "TenantChannelsNearLimit")
            await asyncio.to_thread(notices.came, *limits, cliente_id="acme")
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
        assert await send(acme, 7, body=bytes(1024 * 1024)) == 0
        await asyncio.to_thread(notices.came, "TenantQueueNearBytesLimit", **own)
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

    def tenants(command: str, *arguments: str) -> None:
        done = platform.kryonix("tenant", command, "nova", *arguments, "--stack", platform.stack, "--engine", "local")
        assert done.returncode == 0, done.stderr

    tenants("create", "--modules", "crm", "--plan", "basic", "--notify-webhook", customer.url)
    nova = Application.of(platform.beside("tenant-nova").administered(), "nova")
    asyncio.run(send(nova, BASIC.scaling.scale_up_threshold + 5))
    for each in (notices, customer):
        each.came("TenantQueueBacklog", cliente_id="nova")
    tenants("suspend")
    notices.came("TenantSuspendedWithMessages", cliente_id="nova")
    tenants("resume")
    notices.over("TenantSuspendedWithMessages", cliente_id="nova")
    asyncio.run(nova.empty())
    for each in (notices, customer):
        each.over("TenantQueueBacklog", cliente_id="nova")
    assert {(labels["cliente_id"], labels["audience"]) for labels in customer.all()} == {("nova", "tenant")}
    assert prometheus.value("prometheus_config_last_reload_success_timestamp_seconds") == loaded


class Worker:
    """A worker of `acme-2` for one action, which no other test uses."""

    def __init__(self, platform: Project, host: str) -> None:
        platform.write("alerted.py", "async def handle(message): pass\nHANDLERS = {'crm.tasks.assign': handle}\n")
        options = ["--tenant", "acme-2", "--metrics-host", host, "--metrics-port", str(WORKER_PORT)]
        self._command = platform.command("worker", "alerted:HANDLERS", "--stack", platform.stack, *options)
        self._platform = platform

    def start(self) -> None:
        folder, env = self._platform.folder, self._platform.env
        self._process = subprocess.Popen(self._command, cwd=folder, env=env, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module")
def worker(platform: Project, notices: Notices, prometheus: Prometheus) -> Iterator[Worker]:
    found = Worker(platform, notices.host)
    found.start()
    try:
        eventually("the worker is scraped", partial(prometheus.shows, 'up{job="kryonix-worker"}', 1))
        yield found
    finally:
        found.kill()


def test_a_long_wait_at_a_worker_and_its_end_are_noticed(
    outputs: dict[str, Any], notices: Notices, worker: Worker
) -> None:
    """Messages say that the broker received them two minutes ago."""
    twin = Application.of(outputs, "acme-2")

    async def late() -> None:
        async with twin.account.channel() as channel:
            headers = {"timestamp_in_ms": int(time.time() * 1000) - 120_000}
            key = "crm.tasks.assign.medium"
            await publish(channel, twin.name(), key, b"{}", content_type="application/json", headers=headers)

    def waits() -> bool:
        asyncio.run(late())
        return bool(notices.statuses("TenantWaitLong", cliente_id="acme-2", modulo="crm", acao="tasks.assign"))

    eventually("TenantWaitLong has come", waits)
    worker.kill()
    try:
        notices.fires("KryonixWorkerDown")
    finally:
        worker.start()
    notices.over("KryonixWorkerDown")
    notices.over("TenantWaitLong")


@pytest.mark.parametrize(("role", "alert"), [("exporter", "KryonixExporterDown"), ("rabbitmq", "BrokerDown")])
def test_a_killed_container_is_noticed_and_its_return_too(
    platform: Project, notices: Notices, role: str, alert: str
) -> None:
    notices.over(alert)  # from an earlier test, or from the start
    killed = container(platform, role)
    killed.stop(timeout=0)
    try:
        notices.fires(alert)
    finally:
        killed.start()
    notices.over(alert)
    assert notices.statuses("KryonixRulesFailing") == []


def check(platform: Project) -> tuple[int, list[dict[str, str]]]:
    """Return the exit status of `kryonix check`, and what did not pass."""
    done = platform.kryonix("check", "--json", "--stack", platform.stack, "--engine", "local")
    findings = json.loads(done.stdout)["findings"]
    return done.returncode, [each for each in findings if each["outcome"] in ("fail", "unreachable")]


@pytest.mark.usefixtures("worker")
def test_the_check_names_a_target_that_is_down(
    platform: Project, outputs: dict[str, Any], prometheus: Prometheus
) -> None:
    eventually("a check finds nothing", lambda: check(platform) == (0, []))
    exporter = container(platform, "exporter")
    exporter.stop(timeout=0)
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


def test_a_brokers_alarms_and_a_stopped_queue_are_noticed(platform: Project, notices: Notices) -> None:
    queue = "/cliente_acme-2_cliente_acme-2.crm.leads.update"
    causes = (
        "vm_memory_monitor:set_vm_memory_high_watermark({absolute, 1048576})",
        "rabbit_disk_monitor:set_disk_free_limit(1000000000000000)",
        f"ra:stop_server(quorum_queues, {{'{queue}', node()}})",
    )
    status, output = container(platform, "rabbitmq").exec_run(["rabbitmqctl", "eval", ", ".join(causes) + "."])
    assert status == 0, output
    for name in ("BrokerMemoryAlarm", "BrokerDiskAlarm"):
        notices.fires(name)
    notices.came("TenantQueueWithoutLeader", cliente_id="acme-2", modulo="crm", acao="leads.update")
    container(platform, "rabbitmq").restart(timeout=0)  # which reads its settings again, and runs its queues
    for name in ("BrokerMemoryAlarm", "BrokerDiskAlarm", "TenantQueueWithoutLeader"):
        notices.over(name)
