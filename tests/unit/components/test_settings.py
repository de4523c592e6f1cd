"""Errors of a stack's config name the file and the line."""

from __future__ import annotations

from pathlib import Path

import pulumi
import pytest

from components.settings import _place


def test_a_value_of_the_config_file_is_located(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pulumi, "get_stack", lambda: "dev")
    assert _place("amqpPort", 0) == ""
    (tmp_path / "Pulumi.dev.yaml").write_text("config:\n  kryonix:domain: x\n  kryonix:amqpPort: 0\n")
    assert _place("amqpPort", 0) == "Pulumi.dev.yaml:3: "
    assert _place("amqpPort", 70_000) == "", "another file's value"
    assert _place("registryPort", 0) == ""
