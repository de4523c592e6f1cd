"""`kryonix worker` on a real broker: what it handles, how it scales, and how it ends."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
import pytest

from tests.acceptance.broker import LiveBroker
from tests.acceptance.tenants import Own, own_tenant
from tests.amqp import publish
from tests.harness import Project, free_port

HANDLERS = """
import asyncio, os, pathlib

async def handle(message):
    await asyncio.sleep(float(os.environ["HANDLER_SECONDS"]))
    with pathlib.Path(os.environ["HANDLED"]).open("a") as log:
        log.write(message.message_id + "\\n")

HANDLERS = {"crm.leads.create": handle}
BROKEN = {"crm.lead.create": handle, "crm.leads.create": print}
"""
QUEUE = ("crm", "leads.create")


@pytest.fixture(scope="module")
def own(platform: Project, broker: LiveBroker) -> Iterator[Own]:
    with own_tenant(platform, broker, "opswork", "crm", plan="basic") as made:
        made.project.write("ops_handlers.py", HANDLERS)
        yield made


@pytest.fixture(autouse=True)
def _clean(own: Own) -> None:
    asyncio.run(own.application.empty())
    (own.project.folder / "handled").write_text("")


def send(own: Own, count: int) -> None:
    async def publish_all() -> None:
        async with own.application.account.channel() as channel:
            key = "crm.leads.create.medium"
            names = (str(number) for number in range(count))
            await asyncio.gather(
                *(publish(channel, own.application.name(), key, b"{}", message_id=name) for name in names)
            )

    asyncio.run(publish_all())


def handled(own: Own) -> list[str]:
    return (own.project.folder / "handled").read_text().split()


class Running:
    """A worker that runs, and what it says of itself."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self._url = process, f"http://127.0.0.1:{port}/metrics"

    def metric(self, name: str) -> float | None:
        """The value of a metric of the one action, or of the worker; None while there is none."""
        try:
            text = httpx.get(self._url, timeout=5).text
        except httpx.HTTPError:
            return None
        found = re.search(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
        return None if found is None else float(found.group(1))

    def comes_to(self, what: str, holds: Callable[[], bool], within_s: float = 60) -> None:
        deadline = time.monotonic() + within_s
        while not holds():
            assert self.process.poll() is None, f"the worker ended: {self.process.communicate()[0]}"
            assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
            time.sleep(0.2)

    def end(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        said, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, said
        return said


class Figures(ThreadingHTTPServer):
    """Passes GET on to the management API, until it is broken."""

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), PassingOn)
        self.target, self.broken = target, False
        self.url = f"http://127.0.0.1:{self.server_port}"


class PassingOn(BaseHTTPRequestHandler):
    server: Figures

    def do_GET(self) -> None:
        headers = {"Authorization": self.headers["Authorization"]}
        answer = httpx.get(f"{self.server.target}{self.path}", headers=headers, timeout=30)
        self.send_response(503 if self.server.broken else answer.status_code)
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextmanager
def passing_on(target: str) -> Iterator[Figures]:
    with Figures(target) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@contextmanager
def working(own: Own, seconds: float, *options: str, management_url: str | None = None) -> Iterator[Running]:
    """A worker of the one action, whose handler takes so many seconds."""
    port = free_port()
    env = {**own.env, "HANDLER_SECONDS": str(seconds), "HANDLED": str(own.project.folder / "handled")}
    if management_url is not None:
        env["KRYONIX_MANAGEMENT_URL"] = management_url
    arguments = ("worker", "ops_handlers:HANDLERS", "--plan", "basic", "--metrics-port", str(port), "--interval", "1")
    with Own(own.project, own.application, own.outputs, env).start(*arguments, *options) as process:
        try:
            yield Running(process, port)
        finally:
            process.kill()


def test_a_worker_scales_up_by_depth_and_down_after_the_window(own: Own) -> None:
    send(own, 400)
    with working(own, 0.5, "--window", "3", "--concurrency", "10") as worker:
        worker.comes_to("two consumers", lambda: worker.metric("kryonix_worker_consumers") == 2)
        worker.comes_to("all handled", lambda: len(handled(own)) == 400)
        worker.comes_to("one consumer", lambda: worker.metric("kryonix_worker_consumers") == 1)
        assert worker.metric("kryonix_worker_messages_total") == 400
        assert worker.metric("kryonix_worker_handler_seconds_count") == 400
        assert worker.metric("kryonix_worker_figures_readable") == 1
        said = worker.end()
    assert "crm.leads.create from 1 to 2 consumers: depth" in said
    assert "from 2 to 1 consumers" in said
    assert sorted(handled(own), key=int) == [str(number) for number in range(400)]


def test_a_worker_holds_and_goes_on_working_while_the_figures_cant_be_read(own: Own) -> None:
    send(own, 300)
    with (
        passing_on(own.env["KRYONIX_MANAGEMENT_URL"]) as figures,
        working(own, 0.3, "--window", "0", management_url=figures.url) as worker,
    ):
        worker.comes_to("two consumers", lambda: worker.metric("kryonix_worker_consumers") == 2)
        figures.broken = True
        worker.comes_to("no figures", lambda: worker.metric("kryonix_worker_figures_readable") == 0)
        held = worker.metric("kryonix_worker_consumers")
        worker.comes_to("all handled", lambda: len(handled(own)) == 300)
        time.sleep(8)  # longer than the broker needs to show an empty queue, and the window is 0
        assert worker.metric("kryonix_worker_consumers") == held == 2
        figures.broken = False
        worker.comes_to("one consumer", lambda: worker.metric("kryonix_worker_consumers") == 1)
        assert "holding: " in worker.end()


def test_a_worker_that_is_told_to_end_finishes_what_it_has_begun_and_loses_nothing(own: Own) -> None:
    send(own, 100)
    with working(own, 1.0, "--concurrency", "5") as worker:
        worker.comes_to("something handled", lambda: len(handled(own)) >= 5)
        said = worker.end()
    assert "stopped" in said
    done = handled(own)
    assert len(done) < 100
    left = asyncio.run(own.application.comes_to_hold({".".join(QUEUE): 100 - len(done)}))
    assert left == {".".join(QUEUE): 100 - len(done)}
    assert len(set(done)) == len(done)


def test_handlers_that_cant_be_run_are_all_named(own: Own) -> None:
    result = own.run("worker", "ops_handlers:BROKEN", "--plan", "basic")
    assert result.returncode == 2
    assert "did you mean 'leads.create'" in result.stderr
    assert "is no async function" in result.stderr


def test_keda_objects_need_no_broker_and_hold_no_secret(own: Own) -> None:
    own.project.write("opswork.yaml", "tenants: [{id: opswork, modules: [crm], plan: basic}]\n")
    result = own.run("worker", "--keda", "--tenant", "opswork", "--tenants", "opswork.yaml", env=own.project.env)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("kind: ScaledObject") == 7
    assert "maxReplicaCount: 2" in result.stdout
    assert own.application.account.password not in result.stdout
