"""The commands of the documentation's pages run as they are written, but for the names of the stack and the tenant."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from kryonix.cli.app import app
from tests.support.live_broker import LiveBroker
from tests.support.pages import PAGES, RUN_BY, Command, commands
from tests.support.project import Project

VHOST, QUEUE = "/cliente_acme", "cliente_acme.crm.leads.create"


def here() -> list[Command]:
    return [each for each in commands() if each.case is not None and RUN_BY[each.case] == PAGES]


@pytest.fixture
def folder(platform: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The platform's folder as the working directory, with its environment, and the files that commands read."""
    for name in set(os.environ) - set(platform.env):
        monkeypatch.delenv(name)
    for name, value in platform.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(platform.folder)
    return platform.folder


def adapted(words: tuple[str, ...], stack: str, message_id: str) -> list[str]:
    """Return a command's arguments for the platform's stack and its tenant `acme`."""
    own = {"dev": stack, "exemploempresa": "acme", "MESSAGE_ID": message_id}
    arguments = [own.get(word, word.replace("exemploempresa", "acme")) for word in words[1:]]
    with_stack = ["--stack", stack] if "--outputs" not in words and "--stack" not in words else []
    yes = ["--yes"] if "discard" in words else []
    return [*arguments, *with_stack, *yes]


def run(arguments: list[str]) -> Result:
    return CliRunner().invoke(app, arguments, input='{"name": "Ana"}')


def put(broker: LiveBroker, queue: str, message_id: str = "m-1") -> None:
    """Put a message with an id and JSON into a queue of the tenant, past its exchanges."""
    origin = {"kryonix-exchange": "cliente_acme", "kryonix-routing-key": "crm.leads.create.medium"}
    broker.publish(VHOST, queue, body=b"{}", message_id=message_id, headers=origin)


def test_the_pages_commands_run_on_a_platform(platform: Project, broker: LiveBroker, folder: Path) -> None:
    ran = dict.fromkeys(each.words for each in here())
    for words in ran:
        if "dead-letters" in words:
            put(broker, f"{QUEUE}.dlq")
        for message in range(10 if "consume" in words else 0):
            put(broker, QUEUE, f"m-{message}")
        for file in folder.glob("*.letters.jsonl"):
            file.unlink()
        result = run(adapted(words, platform.stack, "m-1"))
        assert result.exit_code == 0, (words, result.output, result.exception)
    assert len(ran) > 20
    for queue in (QUEUE, f"{QUEUE}.dlq"):
        broker.take(VHOST, queue, 100)
