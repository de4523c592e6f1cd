"""`kryonix tenant list`: tenants shown, and tenants only counted."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from kryonix.cli import tenant
from kryonix.cli.options import PlatformOptions
from kryonix.registry.desired_states import DesiredState

NOW = datetime(2026, 5, 1, tzinfo=UTC)
STATES = [
    DesiredState(cliente_id="here", modules=("crm",), plan="basic", applied_at=NOW, updated_at=NOW),
    DesiredState(cliente_id="gone", modules=("crm",), plan="basic", status="removed"),
    DesiredState(cliente_id="going", modules=("crm",), plan="basic", status="removed", remove_after=NOW),
]


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    site = SimpleNamespace(
        tenants=lambda stacks: (STATES, {"here": "tenants.yaml"}), engine=SimpleNamespace(stacks=list)
    )
    monkeypatch.setattr(tenant, "open_site", lambda platform: site)


def test_removed_tenants_are_only_counted(capsys: pytest.CaptureFixture[str]) -> None:
    tenant.list_tenants(PlatformOptions())
    said = capsys.readouterr().out
    assert "2 tenant(s); 1 removed, shown with --all" in said
    assert ("here" in said, "going" in said, "gone" in said) == (True, True, False)


def test_all_and_json_show_removed_tenants(capsys: pytest.CaptureFixture[str]) -> None:
    tenant.list_tenants(PlatformOptions(), with_removed=True)
    said = capsys.readouterr().out
    assert "3 tenant(s), including removed tenants" in said
    assert "gone" in said
    tenant.list_tenants(PlatformOptions(), json_output=True)
    listed = {state["id"]: state["managed_by"] for state in json.loads(capsys.readouterr().out)}
    assert listed == {"here": "tenants.yaml", "gone": "own stack", "going": "own stack"}
