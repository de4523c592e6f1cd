"""Every Python example of docs/messaging.md runs, in the order of the page."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kryonix.messaging import MemoryBroker, MessagingClient
from tests.integration.messaging.conftest import catalog_of
from tests.support.project import ROOT

pytestmark = pytest.mark.anyio

PAGE = (ROOT / "docs" / "messaging.md").read_text()
PROGRAM, *EXAMPLES = [
    (PAGE[: match.start()].count("\n") + 2, match[1]) for match in re.finditer(r"```python\n(.*?)```", PAGE, re.S)
]


def test_the_page_has_its_examples() -> None:
    assert 1 + len(EXAMPLES) == PAGE.count("```python") >= 13


def test_the_pages_first_program_runs(tenants: dict[str, tuple[str, str]], tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(PROGRAM[1])
    outputs = tmp_path / "exemploempresa.json"
    outputs.touch(mode=0o600)
    outputs.write_text(json.dumps({"tenant": "sdk", "amqp_uri": tenants["sdk"][0]}))
    ran = subprocess.run([sys.executable, "shop.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert re.fullmatch(r"stored: \S+\ntaken: \{.*\}\n", ran.stdout), ran.stdout


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
