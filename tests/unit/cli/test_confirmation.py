"""The confirmation before a change."""

from __future__ import annotations

import sys

import pytest
import typer

from kryonix.cli.output.console import confirm
from kryonix.errors import InvalidChoice


class Terminal:
    def isatty(self) -> bool:
        return True


def test_a_no_exits_with_2_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(typer, "confirm", lambda question: False)
    with pytest.raises(typer.Exit) as ended:
        confirm("up", "Apply 2 changes to stack 'dev'?")
    assert ended.value.exit_code == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "Nothing was changed.\n")


def test_ctrl_c_at_the_question_exits_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(Terminal):
        def readline(self, *_: object) -> str:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", Interrupted())
    with pytest.raises(typer.Exit) as ended:
        confirm("up", "Apply 2 changes to stack 'dev'?")
    assert ended.value.exit_code == 130
    assert capsys.readouterr().err.endswith("Nothing was changed.\n")


def test_answering_yes_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal())
    asked = []

    def answer_yes(question: str) -> bool:
        asked.append(question)
        return True

    monkeypatch.setattr(typer, "confirm", answer_yes)
    confirm("up", "Apply 2 changes to stack 'dev'?")
    assert asked == ["Apply 2 changes to stack 'dev'?"]


def test_without_a_terminal_the_option_yes_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Terminal, "isatty", lambda self: False)
    monkeypatch.setattr(sys, "stdin", Terminal())
    with pytest.raises(InvalidChoice, match="Add --yes"):
        confirm("up", "Apply 2 changes to stack 'dev'?")
