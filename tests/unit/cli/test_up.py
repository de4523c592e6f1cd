"""`kryonix up` on a terminal: asks only if something would change."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
import yaml

from kryonix.cli import site, stack
from kryonix.cli.options import StackOptions
from kryonix.engines.engine import StackSpec
from kryonix.engines.errors import EngineFailed
from kryonix.engines.events import Op, Step, Summary
from kryonix.errors import Failure


def result(op: Op, count: int) -> Summary:
    return Summary(
        {op: count},
        tuple(
            Step(f"urn:pulumi:dev::kryonix::a:b:Queue::queue-{n}", f"queue-{n}", "a:b:Queue", op) for n in range(count)
        ),
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    questions: list[str] = []
    for name in ("Pulumi.yaml", "Pulumi.dev.yaml"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("typer.confirm", questions.append)
    return questions


def run_up(
    monkeypatch: pytest.MonkeyPatch, planned: Summary, preview: Callable[..., Summary] | None = None
) -> list[str]:
    runs: list[str] = []
    engine = SimpleNamespace(
        export=lambda _: {"deployment": None},
        preview=preview or (lambda *_: runs.append("preview") or planned),  # type: ignore[func-returns-value]
        up=lambda *_: runs.append("up") or planned,  # type: ignore[func-returns-value]
    )
    monkeypatch.setattr(site, "engine_of", lambda *_, **__: engine)
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


def test_a_refused_loss_is_reported_after_the_other_changes(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "Pulumi.dev.yaml").write_text("config:\n  kryonix:allowDelete: [old]\n  kryonix:amqpPort: 1234\n")
    lost = Failure(kind="would-lose-messages", exit_status=2, queues={"cliente_acme.crm.leads.create": 3})
    configs: list[object] = []
    step = Step("urn:pulumi:dev::kryonix::a:b:Queue::queue", "queue", "a:b:Queue", "create")
    safeguards = Step(
        "urn:pulumi:dev::kryonix::a:b:C::acme/safeguards",
        "safeguards",
        "a:b:C",
        "update",
        ("allowDelete", "allowDelete[1]"),
    )

    def preview(spec: StackSpec, _: object) -> Summary:
        if spec.config_file is None:
            raise EngineFailed("3 messages would be lost", failure=lost)
        configs.append(yaml.safe_load(spec.config_file.read_text())["config"])
        return Summary({"create": 1, "update": 1}, (step, safeguards))

    with pytest.raises(EngineFailed, match="3 messages would be lost"):
        run_up(monkeypatch, result("same", 1), preview)
    assert configs == [{"kryonix:allowDelete": ["old", "cliente_acme.crm.leads.create"], "kryonix:amqpPort": 1234}]
    shown = capsys.readouterr().out
    assert shown.splitlines()[0] == "rest of the stack: 1 object added"
    assert "1 create, 1 unchanged" in shown
    assert asked == []


def test_a_long_preview_is_a_summary_unless_verbose(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stack._print_preview(result("create", 96), verbose=False)
    assert capsys.readouterr().out.splitlines()[1:] == [
        "96 create, 0 unchanged (0.0 s).",
        "`--verbose` lists all 96 changes.",
    ]
    stack._print_preview(result("create", 96), verbose=True)
    shown = capsys.readouterr().out
    assert all(f"queue-{number} " in shown for number in range(96))
