"""Marks of states that the Pulumi CLI keeps: the same from the list of all stacks as from one stack's export."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pulumi.automation import StackSummary

from kryonix.engines.pulumi_cli import PulumiEngine

WRITTEN = "2026-03-01T12:30:15.123987654+02:00"
LISTED = datetime(2026, 3, 1, 10, 30, 15, 123_000)


def engine(monkeypatch: pytest.MonkeyPatch, written: str, resources: int, listed: list[StackSummary]) -> PulumiEngine:
    made = PulumiEngine(Path("/nowhere"))
    state = {"manifest": {"time": written}, "resources": [{}] * resources}
    monkeypatch.setattr(made, "export", lambda stack: {"deployment": state})
    monkeypatch.setattr(made, "_workspace", lambda folder: SimpleNamespace(list_stacks=lambda: listed))
    return made


def summary(name: str, **fields: Any) -> StackSummary:
    return StackSummary(name, current=False, last_update=LISTED, **fields)


def test_a_list_and_an_export_give_the_same_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [summary("tenant-acme", resource_count=2), summary("organization/kryonix/tenant-beta", resource_count=2)]
    found = engine(monkeypatch, WRITTEN, 2, listed)
    both = found.marks(["tenant-acme", "tenant-beta", "tenant-new"])
    assert both.keys() == {"tenant-acme", "tenant-beta"}
    assert found.marks(["tenant-acme"]) == {"tenant-acme": both["tenant-acme"]}


@pytest.mark.parametrize(("written", "resources"), [(WRITTEN, 3), (WRITTEN.replace("15.123", "15.124"), 2)])
def test_a_state_written_later_has_another_mark(monkeypatch: pytest.MonkeyPatch, written: str, resources: int) -> None:
    before = engine(monkeypatch, WRITTEN, 2, []).marks(["tenant-acme"])
    assert engine(monkeypatch, written, resources, []).marks(["tenant-acme"]) != before


def test_a_stack_under_way_has_no_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [summary("tenant-acme", update_in_progress=True), summary("tenant-beta")]
    assert engine(monkeypatch, WRITTEN, 2, listed).marks(["tenant-acme", "tenant-beta"]).keys() == {"tenant-beta"}
