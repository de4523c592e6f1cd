"""Tenants that drift and rollout leave out are named."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kryonix.cli.fleet import _included
from kryonix.registry.desired_states import DesiredState
from kryonix.tenants.errors import UnknownTenant

NOW = datetime(2026, 5, 1, tzinfo=UTC)
STATES = [
    DesiredState(cliente_id="acme", modules=("crm",), plan="basic"),
    DesiredState(cliente_id="leaving", modules=("crm",), plan="basic", status="offboarding", remove_after=NOW),
    DesiredState(cliente_id="going", modules=("crm",), plan="basic", status="removed", remove_after=NOW),
    DesiredState(cliente_id="gone", modules=("crm",), plan="basic", status="removed"),
]


def test_skipped_tenants_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert [state.cliente_id for state in _included(STATES)] == ["acme"]
    assert "skipped: leaving (offboarding), going (removing)" in capsys.readouterr().err


def test_only_the_named_tenants_are_included(capsys: pytest.CaptureFixture[str]) -> None:
    assert _included(STATES, ["leaving"]) == []
    assert "skipped: leaving (offboarding);" in capsys.readouterr().err
    assert [state.cliente_id for state in _included(STATES, ["acme"])] == ["acme"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["gone", "nobody"])
def test_a_tenant_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(UnknownTenant):
        _included(STATES, [name])
