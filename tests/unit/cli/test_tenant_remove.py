"""`kryonix tenant remove`: shows the messages it deletes, with and without a question."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from kryonix.cli import tenant
from kryonix.cli.options import PlatformOptions
from kryonix.registry.desired_states import DesiredState
from kryonix.tenants.errors import WrongState

NOW = datetime(2026, 5, 1, tzinfo=UTC)
GONE = DesiredState(cliente_id="", modules=("crm",), plan="basic", status="removed", applied_at=NOW, updated_at=NOW)


@pytest.fixture
def removed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the tenants removed; `acme` has messages."""
    done: list[str] = []

    def remove(name: str, on_event: Any, *, force: bool) -> None:
        done.append(name)

    def removable(name: str, *, force: bool) -> None:
        if name == "active":
            raise WrongState(f"{name} is active")

    lifecycle = SimpleNamespace(
        removable=removable,
        messages=lambda name: {"cliente_acme.crm.leads.create": 1_234, "cliente_acme.unrouted": 2},
        remove=remove,
        state=lambda name: replace(GONE, cliente_id=name),
    )
    monkeypatch.setattr(tenant, "_lifecycle", lambda platform: lifecycle)
    return done


def test_the_messages_to_delete_are_shown_also_without_a_question(
    removed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    tenant.remove("acme", PlatformOptions(), force=True, yes=True)
    out, err = capsys.readouterr()
    assert "acme: 1,236 message(s) to delete, in 2 queue(s)" in err
    assert "cliente_acme.crm.leads.create" in err
    assert "1,234" in err
    assert removed == ["acme"]
    assert out == "acme: removed\n"


def test_the_question_has_the_number_of_messages(removed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("typer.confirm", lambda question: asked.append(question) or True)  # type: ignore[func-returns-value]
    tenant.remove("acme", PlatformOptions())
    assert asked == ["Remove tenant 'acme' with 1,236 message(s)?"]
    assert removed == ["acme"]


def test_a_refusal_comes_before_messages_and_question(removed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(WrongState):
        tenant.remove("active", platform=PlatformOptions())
    assert capsys.readouterr() == ("", "")
    assert removed == []
