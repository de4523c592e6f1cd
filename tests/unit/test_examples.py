"""Every example of the documentation is run by a test, or listed with the reason why not."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from kryonix.cli.app import app, load_command
from kryonix.messaging import MemoryBroker, MessagingClient
from kryonix.review.guardrails import parse_acceptances
from kryonix.routing.model import write_model
from kryonix.routing.outcomes import read_outcomes
from kryonix.signup.service import build_service
from kryonix.topology.catalog import default_catalog
from kryonix.topology.cells import parse_cells, single_cell
from kryonix.topology.tenants import parse_tenants
from kryonix.worker.handlers import load_handlers
from tests.support.pages import MESSAGING, NOT_RUN, RUN_BY, UNIT, Block, Command, blocks, commands, content
from tests.support.project import ROOT
from tests.support.review_repository import Repository
from tests.support.routing_models import known, model

LANGUAGES = {
    "sh": "commands, below",
    "console": "commands, below",
    "python": "run, below; docs/messaging.md by its own test",
    "ts": "compiled by sdk/typescript/test/package",
    "yaml": "read, below",
    "json": "compared with the service's description, below",
    "text": "output, or code that needs the reader's catalog",
    "mermaid": "a picture",
    "": "output, or a picture",
}
CATALOG = default_catalog()


def of(language: str) -> list[Block]:
    return [block for block in blocks() if block.language == language and block.page != "docs/messaging.md"]


def test_every_language_of_a_block_is_known() -> None:
    assert {str(block): block.language for block in blocks() if block.language not in LANGUAGES} == {}


def test_every_command_is_run_by_a_test_or_listed_with_a_reason() -> None:
    found = commands()
    assert len(found) > 80
    unknown = [
        f"{each.block}: {' '.join(each.words)}"
        for each in found
        if each.case is None and (each.words[0] == "kryonix" or each.words[0] not in NOT_RUN)
    ]
    assert unknown == [], "name the test that runs it in tests/support/pages.py, or the reason why none does"
    used = {each.case for each in found} | {each.words[0] for each in found}
    assert {*RUN_BY, *NOT_RUN} - used == set(), "no page has these any more"


@pytest.mark.parametrize("case", sorted(RUN_BY))
def test_the_test_named_for_a_command_has_it(case: str) -> None:
    if RUN_BY[case] not in (UNIT, "tests/acceptance/test_pages.py"):  # these run whatever the pages have
        names = [word for word in case.split() if word != "keys"]
        assert f'"{names[-1]}"' in content(RUN_BY[case]) or f'"{names[-1]} ' in content(RUN_BY[case])


def test_every_command_has_arguments_that_the_command_takes() -> None:
    for each in commands():
        if each.case is not None:
            command, rest = load_command(each.words[1]), list(each.words[2:])
            while getattr(command, "commands", None):
                command = command.commands[rest.pop(0)]
            command.make_context(command.name, rest)  # raises UsageError


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with lists of tenants and a model, as those of the commands, and its `origin/main`."""
    (tmp_path / "model.json").write_bytes(write_model(model())[0])
    (tmp_path / "messages.jsonl").write_text(json.dumps(asdict(known())))
    for name in ("tenants.yaml", "other-tenants.yaml"):
        (tmp_path / name).write_bytes((ROOT / "tenants.yaml").read_bytes())
    repository = Repository.empty(tmp_path)
    repository.git("add", ".")
    repository.git("commit", "--quiet", "--message", "Start")
    repository.git("update-ref", "refs/remotes/origin/main", "HEAD")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def offline() -> list[Command]:
    return [each for each in commands() if each.case is not None and RUN_BY[each.case] == UNIT]


@pytest.mark.parametrize("words", sorted({each.words for each in offline()}), ids=" ".join)
def test_a_command_that_needs_no_platform_runs(words: tuple[str, ...], repository: Path) -> None:
    result = CliRunner().invoke(app, words[1:])
    assert result.exit_code == 0, (result.output, result.exception)
    assert result.stdout


@pytest.mark.parametrize("block", of("yaml"), ids=str)
def test_a_yaml_block_is_valid(block: Block) -> None:
    (kind,) = keys = yaml.safe_load(block.text)
    raw = block.text.encode()
    if kind == "tenants":
        assert parse_tenants(raw, str(block), CATALOG)
    elif kind == "cells":
        assert parse_cells(raw, str(block)).cells
    elif kind == "accepted":
        assert parse_acceptances(raw, str(block))
    else:
        declared = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
        assert set(keys) == {"config"}
        assert {key.removeprefix("kryonix:") for key in yaml.safe_load(block.text)["config"]} <= set(declared)


@pytest.mark.parametrize("block", of("json"), ids=str)
def test_a_json_block_has_fields_of_the_service(block: Block) -> None:
    service = build_service("postgresql://nobody:x@127.0.0.1:1/none", CATALOG, single_cell("dev"))
    schemas = service.openapi()["components"]["schemas"]
    fields = {field for schema in schemas.values() for field in schema.get("properties", {})}
    shown = json.loads(block.text)
    assert set(shown) - {"…", "event", "at"} <= fields, "the event's two are those of `PlatformEvents`"


def test_the_readmes_program_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = [each for each in of("python") if each.page == "README.md"]
    broker = MemoryBroker("acme", catalog=CATALOG)

    async def connect(*, outputs: str, application: str) -> MessagingClient:
        assert outputs.endswith(".credentials.json")
        return await broker.connect(application=application)

    monkeypatch.setattr(MessagingClient, "connect", connect)
    names: dict[str, Any] = {"MessagingClient": MessagingClient}
    lines = "".join(f"    {line}\n" for line in block.text.splitlines())
    exec(f"async def example():\n{lines}", names)
    asyncio.run(names["example"]())


def test_the_workers_handlers_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = [each for each in of("python") if each.page == "docs/operating.md"]
    (tmp_path / "leads.py").write_text(block.text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "leads", raising=False)
    assert list(load_handlers("leads:HANDLERS", CATALOG)) == [("crm", "leads.create")]


def test_the_made_up_outcomes_of_the_routing_page_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = [each for each in of("python") if each.page == "docs/routing.md"]
    monkeypatch.chdir(tmp_path)
    exec(block.text, {})
    for name, messages in (("outcomes.jsonl", 20_000), ("later.jsonl", 10_000)):
        with (tmp_path / name).open("rb") as lines:
            assert sum(1 for _ in read_outcomes(lines, name)) == messages


def test_no_other_page_has_python() -> None:
    assert {each.page for each in of("python")} == {"README.md", "docs/operating.md", "docs/routing.md"}
    assert "messaging.md" in content(MESSAGING)
