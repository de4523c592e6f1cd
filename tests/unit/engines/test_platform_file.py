"""A process that can't read a platform's stack takes its outputs from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kryonix.engines.choice import engine_for
from kryonix.engines.engine import StackSpec
from kryonix.engines.errors import Refused
from kryonix.engines.platform_file import VARIABLE, DescribedPlatforms
from tests.support.fake_engine import FakeEngine

DEV = {"registry_dsn": "postgresql://r:x@postgres/kryonix_main", "management_url": "http://rabbitmq:15672"}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "platform.json"
    file.write_text(json.dumps({"dev": DEV}))
    monkeypatch.setenv(VARIABLE, str(file))
    return file


def test_outputs_come_from_the_file_without_state_or_passphrase(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE", raising=False)
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE_FILE", raising=False)
    engine = engine_for("local", tmp_path)
    assert engine.outputs(StackSpec(name="dev")) == DEV
    shown = engine.outputs(StackSpec(name="dev"), show_secrets=False)
    assert shown == {**DEV, "registry_dsn": "[secret]"}
    assert engine.stacks() == ["dev"]
    assert engine.export(StackSpec(name="dev")) == {}


def test_the_ca_of_a_platform_is_written_where_its_dsn_names_it(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file.write_text(json.dumps({"dev": DEV | {"ca_certificate": "a CA"}}))
    assert engine_for("local", tmp_path).outputs(StackSpec(name="dev"))["ca_certificate"] == "a CA"
    (written,) = (tmp_path / ".kryonix" / "trust").iterdir()
    assert written.read_text() == "a CA"


@pytest.mark.parametrize("operation", ["preview", "up", "refresh", "destroy"])
def test_a_described_platform_is_never_run_here(file: Path, tmp_path: Path, operation: str) -> None:
    engine = engine_for("local", tmp_path)
    with pytest.raises(Refused, match="'dev' is known here from KRYONIX_PLATFORM_FILE only"):
        getattr(engine, operation)(StackSpec(name="dev"))


def test_other_stacks_are_run_by_the_engine() -> None:
    inner = FakeEngine()
    engine = DescribedPlatforms(inner, {"dev": DEV})
    spec = StackSpec(name="tenant-acme", config={"kryonix:tenant": {"id": "acme", "modules": ["crm"], "plan": "basic"}})
    engine.up(spec)
    assert engine.stacks() == sorted({"dev", *inner.stacks()})
    assert engine.outputs(spec) == inner.outputs(spec)


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file"), ("{", "can't be read"), ("[]", "not an object"), ('{"dev": 1}', "not an")],
)
def test_an_invalid_file_is_refused(file: Path, tmp_path: Path, content: Any, said: str) -> None:
    file.unlink()
    if content is not None:
        file.write_text(content)
    with pytest.raises(Refused, match=said):
        engine_for("local", tmp_path)
