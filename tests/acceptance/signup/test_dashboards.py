"""Every query of the dashboards, answered by a real Prometheus under real traffic."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Event, Thread

import pytest

from kryonix.messaging import MessagingClient, QueueFull
from kryonix.monitoring.dashboards import ALL, FLEET, TENANT
from kryonix.monitoring.dashboards.grafana import Dashboard
from tests.support.amqp import Account, publish
from tests.support.monitored import Prometheus, monitored, substituted
from tests.support.pictures.__main__ import WIDTH
from tests.support.project import ROOT, Project, free_port
from tests.support.signup_service import Signup
from tests.support.waiting import eventually

SHOP = "painel"
CHOICES = {"cliente_id": SHOP, "modulo": ".+", "instance": ".+"}
HANDLERS = """
from kryonix.messaging import Reject

async def handle(message):
    pass

async def refuse(message):
    raise Reject("no")

HANDLERS = {"crm.leads.create": handle, "crm.leads.qualify": refuse}
"""
EACH = pytest.mark.parametrize("dashboard", ALL, ids=lambda dashboard: dashboard.name)


@pytest.fixture(scope="module")
def shop(signup: Signup) -> Account:
    """A tenant, as its application connects."""
    taken = signup.caller.done("POST", "/v1/tenants", {"id": SHOP, "modules": ["crm", "whatsapp"], "plan": "basic"})
    credentials = signup.caller.credentials(taken)
    return Account(
        host=signup.outputs["amqp_host"],
        port=int(signup.outputs["amqp_port"]),
        management_url=signup.outputs["management_url"],
        username=credentials.username,
        password=credentials.password,
        vhost=credentials.vhost,
    )


@pytest.fixture(scope="module")
def prometheus(signup: Signup, shop: Account, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus beside the platform's broker and service, an exporter, a worker and an application that sends."""
    project, logs, exporter, worker = signup.project, tmp_path_factory.mktemp("logs"), free_port(), free_port()
    project.write("panel_handlers.py", HANDLERS)
    uri = f"amqp://{shop.username}:{shop.password}@{shop.host}:{shop.port}/{shop.vhost.replace('/', '%2F')}"
    env = {**project.env, "KRYONIX_AMQP_URI": uri, "KRYONIX_MANAGEMENT_URL": shop.management_url}
    broker = re.sub(r"^http://|/metrics$", "", signup.outputs["metrics_url"])
    targets = {
        "kryonix-broker": [broker],
        "kryonix-tenants": [broker],
        "kryonix-exporter": [f"127.0.0.1:{exporter}"],
        "kryonix-signup": [signup.base.removeprefix("http://")],
        "kryonix-worker": [f"127.0.0.1:{worker}"],
    }
    stack = ("--stack", project.stack, "--engine", "local")
    handlers = ("panel_handlers:HANDLERS", "--plan", "basic", "--metrics-port", str(worker))
    with ExitStack() as running:
        running.enter_context(
            process(project, logs, "exporter", *stack, "--port", str(exporter), "--interval", "2", env=project.env)
        )
        running.enter_context(process(project, logs, "worker", *handlers, env=env))
        running.enter_context(sending(shop, uri))
        yield running.enter_context(monitored(targets, every_s=3))


@contextmanager
def process(project: Project, logs: Path, *arguments: str, env: dict[str, str]) -> Iterator[None]:
    with (logs / arguments[0]).open("wb") as log:
        started = subprocess.Popen(
            project.command(*arguments), cwd=project.folder, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            yield
        finally:
            started.kill()
            started.wait()


@contextmanager
def sending(shop: Account, uri: str) -> Iterator[None]:
    """Send a few messages a second: handled, rejected, without a consumer, and without a route."""
    ended = Event()

    async def send() -> None:
        client = await MessagingClient.connect(uri, application="shop")
        async with client, shop.channel() as channel:
            while not ended.is_set():
                for module, action in (
                    ("crm", "leads.create"),
                    ("crm", "leads.qualify"),
                    ("whatsapp", "messages.send"),
                ):
                    with suppress(QueueFull):
                        await client.module(module).send(action, {"name": "Ana"})
                await publish(channel, f"cliente_{SHOP}", "crm.nothing.medium")
                await asyncio.sleep(0.3)

    thread = Thread(target=lambda: asyncio.run(send()))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@EACH
def test_every_panel_shows_data(prometheus: Prometheus, dashboard: Dashboard) -> None:
    def unanswered() -> list[str]:
        return [
            f"{panel.title} {ref}: {query.expr}"
            for panel in dashboard.panels()
            for ref, query in panel.refs()
            if not prometheus.ask(query, CHOICES, "30s") and not query.may_be_empty
        ]

    left: list[str] = ["not asked yet"]

    def all_answered() -> bool:
        left[:] = unanswered()
        return not left

    try:
        eventually("every panel has data", all_answered)
    except AssertionError:
        assert left == []
        raise


@EACH
def test_every_choice_at_the_top_has_values(prometheus: Prometheus, dashboard: Dashboard) -> None:
    for variable in dashboard.variables:
        match = re.fullmatch(r"label_values\((?P<series>.+), (?P<label>\w+)\)", variable.query)
        assert match
        series = match["series"].replace("$cliente_id", SHOP)
        found = eventually(f"{variable.label} has values", partial(labels, prometheus, series, match["label"]))
        if variable.name == "cliente_id":
            assert SHOP in found


@pytest.mark.parametrize(
    ("title", "action"),
    [
        ("Wait, 95th percentile", "leads.create"),
        ("Messages without a consumer", "messages.send"),
        ("Messages in dead-letter queues", "leads.qualify"),
    ],
)
def test_a_panel_shows_the_action_that_it_is_about(prometheus: Prometheus, title: str, action: str) -> None:
    """These may be empty; alerts may be, too, but take minutes to fire."""
    (panel,) = (panel for panel in TENANT.panels() if panel.title == title)
    expr = substituted(panel.queries[0].expr, CHOICES, "30s")
    eventually(f"{title} shows {action}", lambda: action in labels(prometheus, expr, "acao"))


@pytest.mark.parametrize("dashboard", [FLEET, TENANT], ids=["fleet", "tenant"])
def test_a_picture_is_drawn_for_the_documentation(prometheus: Prometheus, dashboard: Dashboard, tmp_path: Path) -> None:
    """These two have panels of every kind."""
    command = [sys.executable, "-m", "tests.support.pictures", dashboard.name, "--prometheus", prometheus.url]
    file = tmp_path / "picture.png"
    subprocess.run([*command, "--choose", f"cliente_id={SHOP}", "--output", file], cwd=ROOT, check=True)
    drawn = file.read_bytes()
    assert drawn.startswith(b"\x89PNG")
    assert int.from_bytes(drawn[16:20]) == WIDTH


def labels(prometheus: Prometheus, expr: str, label: str) -> set[str]:
    return {each["metric"][label] for each in prometheus.instant(expr) if label in each["metric"]}
