"""`kryonix tenant list`: who is shown, and who is counted."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from kryonix.cli.tenant import runs
from kryonix.registry.desired_states import DesiredState

NOW = datetime(2026, 5, 1, tzinfo=UTC)
STATES = [
    DesiredState(cliente_id="here", modules=("crm",), plan="basic", applied_at=NOW, updated_at=NOW),
    DesiredState(cliente_id="gone", modules=("crm",), plan="basic", status="removed"),
    DesiredState(cliente_id="going", modules=("crm",), plan="basic", status="removed", remove_after=NOW),
]


class Registry:
    def states(self) -> list[DesiredState]:
        return STATES


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_lifecycle", lambda stack, engine: Registry())


def test_tenants_that_are_gone_are_counted_and_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    runs.list_tenants("dev", "local", False, False)
    said = capsys.readouterr().out
    assert "2 tenant(s) with a stack of their own; 1 removed, with --all" in said
    assert ("here" in said, "going" in said, "gone" in said) == (True, True, False)


def test_all_of_them_are_shown_where_they_are_asked_for_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    runs.list_tenants("dev", "local", True, False)
    said = capsys.readouterr().out
    assert "3 tenant(s) that have or had a stack of their own" in said
    assert "gone" in said
    runs.list_tenants("dev", "local", False, True)
    assert [state["id"] for state in json.loads(capsys.readouterr().out)] == ["here", "gone", "going"]
