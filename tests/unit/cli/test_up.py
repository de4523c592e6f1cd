"""`kryonix up` on a terminal: asks only if something would change."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from kryonix.cli import site, stack
from kryonix.cli.options import StackOptions
from kryonix.engines.events import Op, Step, Summary


def result(op: Op, count: int) -> Summary:
    return Summary({op: count}, tuple(Step(f"urn{n}", f"queue-{n}", "a:b:Queue", op) for n in range(count)))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    questions: list[str] = []
    for name in ("Pulumi.yaml", "Pulumi.dev.yaml"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("typer.confirm", questions.append)
    return questions


def run_up(monkeypatch: pytest.MonkeyPatch, planned: Summary) -> list[str]:
    runs: list[str] = []
    engine = SimpleNamespace(
        export=lambda _: {"deployment": None},
        preview=lambda *_: runs.append("preview") or planned,  # type: ignore[func-returns-value]
        up=lambda *_: runs.append("up") or planned,  # type: ignore[func-returns-value]
    )
    for module in (stack, site):
        monkeypatch.setattr(module, "engine_of", lambda *_, **__: engine)
    with suppress(typer.Exit):
        stack.up(StackOptions())
    return runs


def test_up_asks_with_the_count_of_changes_and_no_applies_none(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_up(monkeypatch, result("create", 96)) == ["preview"]
    assert asked == ["Apply 96 changes to stack 'dev'?"]


def test_without_changes_nothing_is_asked(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_up(monkeypatch, result("same", 619)) == ["preview", "up"]
    assert asked == []
    assert capsys.readouterr().out.startswith("No changes. 619 resources match the recorded state")
