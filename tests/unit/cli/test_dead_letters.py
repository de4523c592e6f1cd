"""`kryonix dead-letters`: what is shown, recorded and deleted."""

from __future__ import annotations

import json
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from kryonix.cli import dead_letters, site
from kryonix.cli.app import app
from kryonix.cli.connection import TenantOptions
from kryonix.messaging.redrive.letters import DeadLetter
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.topology.cells import Cell, Cells
from kryonix.topology.objects import QueueState

ACME = TenantOptions()
NOW = datetime.now(UTC)


def letter(id: str, action: str = "leads.create", **fields: Any) -> DeadLetter:
    given: dict[str, Any] = {
        "module": "crm",
        "action": action,
        "queue": f"cliente_acme.crm.{action}.dlq",
        "message_id": id,
        "reason": "not today",
        "died_at": NOW - timedelta(days=2),
        "sent_at": NOW - timedelta(days=3),
        "attempts": None,
        "redrives": 0,
        "exchange": "cliente_acme",
        "routing_key": "crm.leads.create.low",
        "priority": 2,
        "application": "shop",
        "content_type": "application/json",
        "content_encoding": None,
        "headers": {"at": NOW, "raw": b"\xff"},
        "body": b'{"name": "Ana"}',
    }
    return DeadLetter(**given | fields)


KOMBU: dict[str, Any] = {"headers": {"compression": "application/x-gzip"}, "body": zlib.compress(b'{"name": "Ana"}')}
LETTERS = [
    letter("one"),
    letter("two", attempts=4, **KOMBU),
    letter("raw", "contacts.sync", body=b"{", reason="expired"),
]


@pytest.fixture
def discarded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[DeadLetter]:
    """Return the letters that the broker deletes; `two` is gone when it is asked to."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KRYONIX_AMQP_URI", "amqp://kryonix_acme:hidden@127.0.0.1:1/%2Fcliente_acme")
    gone: list[DeadLetter] = []

    async def peek(address: Any, catalog: Any, routes: Any, ids: Any, limit: int | None) -> list[DeadLetter]:
        return [each for each in LETTERS if not ids or each.message_id in ids][:limit]

    async def discard(address: Any, catalog: Any, letters: Any, record: Any) -> int:
        for each in letters:
            if each.message_id != "two":
                record(each)
                gone.append(each)
        return len(gone)

    monkeypatch.setattr(dead_letters, "peek", peek)
    monkeypatch.setattr(dead_letters, "discard_letters", discard)
    return gone


def test_letters_are_shown_without_their_data(discarded: list[DeadLetter], capsys: pytest.CaptureFixture[str]) -> None:
    dead_letters.show(ACME, limit=3)
    out, err = capsys.readouterr()
    for part in ("acme: 3 dead letter(s)", "two", "not today", "expired", "2 d", "3 d", "?", "4"):
        assert part in out
    assert "Ana" not in out
    assert "the first 3 are shown" in err
    dead_letters.show(ACME, json_output=True)
    assert "headers" not in json.loads(capsys.readouterr().out)[0]


def test_data_and_headers_are_printed_on_request(
    discarded: list[DeadLetter], capsys: pytest.CaptureFixture[str]
) -> None:
    dead_letters.show(ACME, payload=True)
    one, two, raw = map(json.loads, capsys.readouterr().out.splitlines())
    assert (one["data"], one["headers"]["raw"]) == ({"name": "Ana"}, "b'\\xff'")
    assert two["data"] == {"name": "Ana"}
    assert (raw["body_base64"], "undecodable" in raw) == ("ew==", True)


def test_a_list_counts_reasons_by_action(discarded: list[DeadLetter], capsys: pytest.CaptureFixture[str]) -> None:
    dead_letters.list_queues(ACME, json_output=True)
    sync, create = json.loads(capsys.readouterr().out)
    assert (sync["action"], sync["reasons"]) == ("crm.contacts.sync", {"expired": 1})
    assert (create["dead_letters"], create["oldest"]) == (2, (NOW - timedelta(days=2)).isoformat())


def test_discarding_asks_with_counts_and_is_recorded(
    discarded: list[DeadLetter], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("typer.confirm", lambda question: asked.append(question) or True)  # type: ignore[func-returns-value]
    dead_letters.discard(ACME)
    out, err = capsys.readouterr()
    assert asked == ["Discard 3 dead letter(s) of tenant 'acme'?"]
    assert "2  crm.leads.create" in err
    assert "2 dead letter(s) of acme discarded; recorded in acme.discarded.letters.jsonl" in out
    record = Path("acme.discarded.letters.jsonl")
    assert record.stat().st_mode & 0o777 == 0o600
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert [(line["message_id"], line["discarded_by"]) for line in lines] == [
        ("one", "kryonix_acme"),
        ("raw", "kryonix_acme"),
    ]
    dead_letters.discard(ACME, message_id=["one"], yes=True)
    assert len(record.read_text().splitlines()) == 3


def test_nothing_is_discarded_without_a_private_record(discarded: list[DeadLetter]) -> None:
    Path("open.jsonl").touch(0o644)
    for arguments in (["--output", "open.jsonl", "--yes"], ["--output", "none/x.jsonl", "--yes"], []):
        result = CliRunner().invoke(app, ["dead-letters", "discard", *arguments])
        assert getattr(result.exception, "exit_status", None) == 2, result.output
    assert discarded == []


def test_an_export_is_private(discarded: list[DeadLetter]) -> None:
    dead_letters.export(ACME, output=Path("all.jsonl"))
    assert [json.loads(line)["message_id"] for line in Path("all.jsonl").read_text().splitlines()] == [
        "one",
        "two",
        "raw",
    ]
    assert Path("all.jsonl").stat().st_mode & 0o777 == 0o600


def test_without_a_tenant_all_tenants_with_messages_are_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = {
        "acme": {"crm.leads.create": 2, "crm.leads.create.dlq": 1, "unrouted": 4},
        "beta": {"crm.leads.create.dlq": 7},
        "idle": {"x": 0},
    }
    queues = [
        QueueState(f"/cliente_{tenant}", f"cliente_{tenant}.{name}", {}, messages)
        for tenant, found in held.items()
        for name, messages in found.items()
    ]

    def of(outputs: dict[str, str]) -> Any:
        if outputs["name"] == "away":
            raise BrokerUnavailable("the broker does not answer")
        return SimpleNamespace(queues=lambda: queues)

    cells = Cells(cells={name: Cell(platform=f"organization/kryonix/{name}") for name in ("main", "away")})
    engine = SimpleNamespace(outputs=lambda spec: {"name": spec.name})
    monkeypatch.delenv("KRYONIX_AMQP_URI", raising=False)
    monkeypatch.setattr(site, "open_site", lambda platform: SimpleNamespace(cells=cells, engine=engine))
    monkeypatch.setattr(dead_letters, "stack_outputs", lambda stack: {"admin_username": "kryonix_admin"})
    monkeypatch.setattr("kryonix.cli.dead_letters.Broker.of", of)
    result = CliRunner().invoke(app, ["dead-letters", "list", "--json"])
    assert result.exit_code == 3
    assert "cell 'away': the broker does not answer" in result.stderr
    beta, acme = json.loads(result.stdout)
    assert beta == {
        "tenant": "beta",
        "cell": "main",
        "backlog": 0,
        "dead_letters": 7,
        "unrouted": 0,
        "most": "crm.leads.create",
    }
    assert (acme["tenant"], acme["backlog"], acme["dead_letters"], acme["unrouted"]) == ("acme", 2, 1, 4)
    said = CliRunner().invoke(app, ["dead-letters", "list"]).stdout
    assert "2 of 3 tenant(s) have messages" in said
    cells = Cells(cells={"away": cells.cells["away"]})
    unread = CliRunner().invoke(app, ["dead-letters", "list"])
    assert (unread.exit_code, unread.stdout) == (3, "")  # not "no messages"
