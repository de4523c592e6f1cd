"""Every Python example of docs/messaging.md runs, in the order of the page."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from kryonix.messaging import MemoryBroker, MessagingClient
from tests.integration.messaging.conftest import catalog_of
from tests.support.project import ROOT
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

PAGE = (ROOT / "docs" / "messaging.md").read_text()
EXAMPLES = [
    (PAGE[: match.start()].count("\n") + 2, match[1])
    for match in re.finditer(r"```python\n(?!# \w+\.py)(.*?)```", PAGE, re.S)
]
PROGRAMS = dict(re.findall(r"```python\n(?=# (\w+\.py): run)(.*?)```", PAGE, re.S))


def test_the_page_has_its_examples() -> None:
    assert len(PROGRAMS) + len(EXAMPLES) == PAGE.count("```python") >= 15
    assert list(PROGRAMS) == ["shop.py", "worker.py", "api.py"]


def test_the_pages_first_program_runs(tenants: dict[str, tuple[str, str]], tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(PROGRAMS["shop.py"])
    outputs = tmp_path / "exemploempresa.credentials.json"
    outputs.touch(mode=0o600)
    outputs.write_text(json.dumps({"tenant": "sdk", "amqp_uri": tenants["sdk"][0]}))
    ran = subprocess.run([sys.executable, "shop.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert re.fullmatch(r"stored: \S+\ntaken: \{.*\}\n", ran.stdout), ran.stdout


async def test_the_pages_worker_runs_until_sigterm(tenants: dict[str, tuple[str, str]], tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(PROGRAMS["worker.py"])
    uri = tenants["sdk"][0]
    environment = {**os.environ, "KRYONIX_AMQP_URI": uri}
    async with await MessagingClient.connect(uri, application="docs") as client:
        await client.crm.send("leads.create", {"for": "the worker"})
    log, command = tmp_path / "worker.log", [sys.executable, "worker.py"]
    with (
        log.open("wb") as output,
        subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=output, stderr=output) as process,
    ):
        try:
            eventually("the message", lambda: "taken: {'for': 'the worker'}\n" in log.read_text(), process=process)
            process.terminate()
            process.wait(60)
        finally:
            process.kill()
    assert (process.returncode, "Traceback" in log.read_text()) == (0, False), log.read_text()


@pytest.mark.parametrize("broker", ["memory", "rabbitmq"])
def test_the_pages_web_application_sends_and_tells_its_readiness(
    broker: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = MemoryBroker("sdk", catalog=catalog_of("sdk"))
    if broker == "memory":
        monkeypatch.setattr(MessagingClient, "connect", memory.connect)
    else:
        monkeypatch.setenv("KRYONIX_AMQP_URI", request.getfixturevalue("tenants")["sdk"][0])
    module = types.ModuleType("api")
    monkeypatch.setitem(sys.modules, "api", module)
    exec(PROGRAMS["api.py"], vars(module))
    with TestClient(module.app) as api:
        answer = api.post("/leads", json={"name": "Ana", "created_at": "2026-01-02T12:00:00Z"})
        assert (answer.status_code, [*answer.json()]) == (202, ["message_id"])
        assert api.get("/readyz").json() == {"ready": True}
        memory.go_away()
        if broker == "memory":
            assert (api.get("/readyz").status_code, api.get("/readyz").json()) == (503, {"ready": False})


@pytest.mark.parametrize("broker", ["memory", "rabbitmq"])
async def test_the_examples_run(
    broker: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if broker == "memory":
        connect = MemoryBroker("sdk", catalog=catalog_of("sdk")).connect
    else:
        uri, management = request.getfixturevalue("tenants")["sdk"]
        monkeypatch.setenv("KRYONIX_AMQP_URI", uri)
        monkeypatch.setenv("KRYONIX_MANAGEMENT_URL", management)
        connect = MessagingClient.connect
    clients: list[MessagingClient] = []

    async def connected(**options: Any) -> MessagingClient:
        clients.append(await connect(**options))
        return clients[-1]

    monkeypatch.setattr(MessagingClient, "connect", connected)
    names: dict[str, Any] = {}
    for line, source in EXAMPLES:
        if ".stream(" in source:
            await clients[0].crm.send("leads.create", {"for": "the loop that takes one message"})
        await _run(line, source, names)
    for client in clients:
        await client.close()


async def _run(line: int, source: str, names: dict[str, Any]) -> None:
    """Run an example, which may await, at its place on the page; what it names stays."""
    tree = ast.increment_lineno(ast.parse(source), line - 1)
    code = compile(tree, str(ROOT / "docs" / "messaging.md"), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if (running := eval(code, names)) is not None:
        await running
