"""`kryonix worker` on a real broker: handling, scaling and stopping."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread, Timer

import httpx
import pytest

from tests.support.amqp import publish
from tests.support.live_broker import LiveBroker
from tests.support.project import Project, free_port
from tests.support.tenants import Own, own_tenant
from tests.support.waiting import eventually

HANDLERS = """
import asyncio, os, pathlib
from pydantic import BaseModel

class Lead(BaseModel):
    name: str = "Ana"

GATE, HANDLED = pathlib.Path("gate"), pathlib.Path("handled")

def let_through():
    try:
        return int(GATE.read_text())
    except FileNotFoundError:
        return 1_000_000

async def handle(message):
    while len(HANDLED.read_text().split()) >= let_through():
        await asyncio.sleep(0.05)
    assert message.data == Lead()
    with HANDLED.open("a") as log:
        log.write(message.message_id + "\\n")

HANDLERS = {"crm.leads.create": (handle, Lead)}
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
    let_through(own, 0)


def let_through(own: Own, messages: int | None) -> None:
    """Have handlers wait once so many messages were handled; None: none waits any more."""
    gate = own.project.folder / "gate"
    if messages is None:
        gate.unlink()
        return
    new = own.project.folder / "gate.new"
    new.write_text(str(messages))
    new.rename(gate)


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
    """A running worker and its output."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self._url = process, f"http://127.0.0.1:{port}/metrics"

    def metric(self, name: str) -> float | None:
        """The value of a metric of the one action, or of the worker; None while there is none."""
        try:
            text = httpx.get(self._url, timeout=30).text
        except httpx.HTTPError:
            return None
        found = re.search(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
        return None if found is None else float(found.group(1))

    def comes_to(self, what: str, holds: Callable[[], bool]) -> None:
        eventually(what, holds, process=self.process)

    def says(self, words: str) -> None:
        """Read its output until the text appears."""
        assert self.process.stdout is not None
        late = Timer(120, self.process.kill)
        late.start()
        try:
            for line in self.process.stdout:
                if words in line:
                    return
        finally:
            late.cancel()
        raise AssertionError(f"it ended, or was ended after 120 s, without {words!r}")

    def end(self) -> str:
        """Stop it, wait for its end, and return its output since then."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> str:
        """Wait for its clean exit, and return its output since then."""
        said, _ = self.process.communicate(timeout=120)
        assert self.process.returncode == 0, said
        return said


class Figures(ThreadingHTTPServer):
    """Passes GET on to the management API, until it is broken."""

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), PassingOn)
        self.target, self.broken, self.refused = target, False, 0
        self.url = f"http://127.0.0.1:{self.server_port}"


class PassingOn(BaseHTTPRequestHandler):
    server: Figures

    def do_GET(self) -> None:
        headers = {"Authorization": self.headers["Authorization"]}
        answer = httpx.get(f"{self.server.target}{self.path}", headers=headers, timeout=30)
        self.server.refused += self.server.broken
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
def working(own: Own, *options: str, management_url: str | None = None) -> Iterator[Running]:
    """A worker of the one action."""
    port = free_port()
    env = {**own.env, **({} if management_url is None else {"KRYONIX_MANAGEMENT_URL": management_url})}
    arguments = ("worker", "ops_handlers:HANDLERS", "--plan", "basic", "--metrics-port", str(port), "--interval", "1")
    with Own(own.project, own.application, own.outputs, env).start(*arguments, *options) as process:
        try:
            yield Running(process, port)
        finally:
            process.kill()


def test_a_worker_scales_up_by_depth_and_down_after_the_window(own: Own) -> None:
    send(own, 150)
    notes = own.project.folder / "notes.jsonl"
    with working(own, "--window", "2", "--outcomes", str(notes), "--outcomes-share", "1") as worker:
        worker.comes_to("two consumers", lambda: worker.metric("kryonix_worker_consumers") == 2)
        let_through(own, None)
        worker.comes_to("all handled", lambda: len(handled(own)) == 150)
        worker.comes_to("one consumer", lambda: worker.metric("kryonix_worker_consumers") == 1)
        worker.comes_to("150 counted", lambda: worker.metric("kryonix_worker_messages_total") == 150)
        worker.comes_to("150 timed", lambda: worker.metric("kryonix_worker_handler_seconds_count") == 150)
        worker.comes_to("150 waits", lambda: worker.metric("kryonix_worker_wait_seconds_count") == 150)
        worker.comes_to("figures", lambda: worker.metric("kryonix_worker_figures_readable") == 1)
        said = worker.end()
    noted = [json.loads(line) for line in notes.read_text().splitlines()]
    assert sorted(int(note["message_id"]) for note in noted) == list(range(150))
    assert {(note["note"], note["tenant"], note["outcome"]) for note in noted} == {("consumed", "opswork", "done")}
    assert "crm.leads.create from 1 to 2 consumers: depth" in said
    assert "from 2 to 1 consumers" in said
    assert sorted(handled(own), key=int) == [str(number) for number in range(150)]


def test_a_worker_keeps_its_scale_while_queue_figures_are_unreadable(own: Own) -> None:
    send(own, 150)
    with (
        passing_on(own.env["KRYONIX_MANAGEMENT_URL"]) as figures,
        working(own, "--window", "0", management_url=figures.url) as worker,
    ):
        worker.comes_to("two consumers", lambda: worker.metric("kryonix_worker_consumers") == 2)
        figures.broken = True
        worker.comes_to("no figures", lambda: worker.metric("kryonix_worker_figures_readable") == 0)
        let_through(own, None)
        worker.comes_to("all handled", lambda: len(handled(own)) == 150)
        worker.comes_to("the broker to show an empty queue", lambda: shown_depth(own) == 0)
        asked = figures.refused
        worker.comes_to("three more decisions", lambda: figures.refused >= asked + 3)
        assert worker.metric("kryonix_worker_consumers") == 2  # with these figures it would be 1: the window is 0
        figures.broken = False
        worker.comes_to("one consumer", lambda: worker.metric("kryonix_worker_consumers") == 1)
        assert "holding: " in worker.end()


def shown_depth(own: Own) -> int:
    """Return the queue's current state from the management API."""
    name = own.application.name(*QUEUE)
    return int(own.application.admin.get("queues", own.application.vhost, name).get("messages", -1))


def test_a_stopped_worker_finishes_its_messages_and_loses_none(own: Own) -> None:
    send(own, 100)
    let_through(own, 5)
    with working(own, "--concurrency", "5") as worker:
        worker.comes_to("something handled", lambda: len(handled(own)) >= 5)
        worker.process.send_signal(signal.SIGTERM)
        worker.says("stopping: ")
        let_through(own, None)
        said = worker.ended()
    assert "stopped" in said
    done = handled(own)
    assert 10 <= len(done) < 100  # at least the five that were in the handlers' hands
    left = {".".join(QUEUE): 100 - len(done)}
    assert asyncio.run(own.application.comes_to_hold(left)) == left
    assert len(set(done)) == len(done)


def test_a_killed_worker_loses_nothing(own: Own) -> None:
    send(own, 50)
    let_through(own, 5)
    with working(own, "--concurrency", "5") as worker:
        worker.comes_to("something handled", lambda: len(handled(own)) >= 5)
        worker.process.kill()
    let_through(own, None)
    with working(own) as worker:
        worker.comes_to("the rest handled", lambda: len(set(handled(own))) == 50)
        worker.end()
    assert asyncio.run(own.application.comes_to_hold({})) == {}


def test_all_invalid_handlers_are_named(own: Own) -> None:
    result = own.run("worker", "ops_handlers:BROKEN", "--plan", "basic")
    assert result.returncode == 2
    assert "Did you mean 'leads.create'" in result.stderr
    assert "is not an async function" in result.stderr


def test_keda_objects_need_no_broker_and_contain_no_secret(own: Own) -> None:
    own.project.write("opswork.yaml", "tenants: [{id: opswork, modules: [crm], plan: basic}]\n")
    result = own.run("worker", "--keda", "--tenant", "opswork", "--tenants", "opswork.yaml", env=own.project.env)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("kind: ScaledObject") == 7
    assert "maxReplicaCount: 2" in result.stdout
    assert own.application.account.password not in result.stdout
