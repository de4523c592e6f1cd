"""Every Python example of docs/messaging.md, run in the order of the page."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

import kryonix.messaging as messaging
from kryonix.messaging import MemoryBroker, MessagingClient
from tests.harness import ROOT
from tests.integration.messaging.conftest import catalog_of

pytestmark = pytest.mark.anyio

PAGE = (ROOT / "docs" / "messaging.md").read_text()
EXAMPLES = [
    (PAGE[: match.start()].count("\n") + 2, match[1]) for match in re.finditer(r"```python\n(.*?)```", PAGE, re.S)
]


def test_the_page_has_its_examples() -> None:
    assert len(EXAMPLES) == PAGE.count("```python") >= 11


@pytest.mark.parametrize("broker", ["memory", "rabbitmq"])
async def test_the_examples_run(
    broker: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {name: getattr(messaging, name) for name in messaging.__all__}
    clients: list[MessagingClient] = []
    if broker == "memory":
        connect = MemoryBroker("sdk", catalog=catalog_of("sdk")).connect
        names["MessagingClient"] = type("MessagingClient", (), {"connect": lambda _, **options: connect(**options)})
        names["amqp_uri"] = None
    else:
        uri, management = request.getfixturevalue("tenants")["sdk"]
        names["amqp_uri"] = uri

        async def connect(**options: Any) -> MessagingClient:
            return await MessagingClient.connect(uri, management_url=management, **options)

    async def connected(**options: Any) -> MessagingClient:
        clients.append(await connect(**options))
        return clients[-1]

    names["connect"] = connected
    for line, source in EXAMPLES:
        await _run(line, source, names)
        if line == EXAMPLES[0][0]:
            # The first example closes its client; the page goes on with another.
            names["client"] = await connected(application="docs")
        elif "stream" not in source:
            # For the loop that takes one message.
            await clients[0].crm.send("leads.create", {"for": "the next example"})
    for client in clients:
        await client.close()


async def _run(line: int, source: str, names: dict[str, Any]) -> None:
    """Run an example, which may await, at its place on the page; what it names stays."""
    function = f"async def example():\n    global client\n{textwrap.indent(source, '    ')}"
    tree = ast.increment_lineno(ast.parse(function), line - 3)
    exec(compile(tree, str(ROOT / "docs" / "messaging.md"), "exec"), names)
    await names["example"]()
