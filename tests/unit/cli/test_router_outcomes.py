"""Outcomes for `kryonix router`: their sources, and addresses with a password."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kryonix.cli.router_outcomes import app, outcomes_of, parse_age
from kryonix.errors import InvalidChoice

LINE = (
    '{"module":"crm","action":"leads.create","at":1767600000,"message_id":"%s","bytes":10,"device":"web","shape":"s",'
    '"priority":null,"expires_ms":null,"waited_ms":1,"handled_ms":2,"attempts":1,"outcome":"done","priority_used":5}\n'
)


def test_several_files_are_read_one_after_the_other(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(LINE % name)
    found = outcomes_of([str(tmp_path / "a"), str(tmp_path / "b")])
    assert [each.message_id for each in found] == ["a", "b"]


def test_the_variable_names_the_source_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text(LINE % "a")
    monkeypatch.setenv("KRYONIX_OUTCOMES", str(tmp_path / "a"))
    assert [each.message_id for each in outcomes_of(None)] == ["a"]
    monkeypatch.delenv("KRYONIX_OUTCOMES")
    with pytest.raises(InvalidChoice, match="Give --outcomes FILE, or set KRYONIX_OUTCOMES"):
        outcomes_of(None)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(InvalidChoice, match=r"'none\.jsonl' can't be read: No such file"):
        outcomes_of(["none.jsonl"])


@pytest.mark.parametrize(
    "address",
    ["postgresql://kryonix:hidden@db/kryonix", "postgres://db/kryonix?user=kryonix&password=hidden"],
)
def test_an_address_with_a_password_is_refused_without_showing_it(address: str) -> None:
    with pytest.raises(InvalidChoice, match=r"Set KRYONIX_OUTCOMES to it, or keep the password in ~/\.pgpass") as error:
        outcomes_of([address])
    assert "hidden" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "age"),
    [("14d", timedelta(days=14)), ("12h", timedelta(hours=12)), ("90min", timedelta(minutes=90))],
)
def test_an_age_has_a_unit(text: str, age: timedelta) -> None:
    assert parse_age(text) == age


@pytest.mark.parametrize("text", ["", "14", "d", "-1d", "0d", "1.5h", "999999999d", "14 d"])
def test_other_ages_are_refused(text: str) -> None:
    with pytest.raises(InvalidChoice, match="is not an age, such as 14d, 12h or 90min"):
        parse_age(text)


NOTE = (
    '{"note":"consumed","tenant":"acme","module":"crm","action":"leads.create","message_id":"a","at":1767600000,'
    '"waited_ms":1,"handled_ms":2,"attempts":1,"outcome":"done"}\n'
)


def test_notes_instead_of_outcomes_are_told_to_be_joined(tmp_path: Path) -> None:
    (file := tmp_path / "notes.jsonl").write_text(NOTE)
    with pytest.raises(InvalidChoice, match=r"notes\.jsonl:1: a note .* `kryonix router outcomes export --notes .*"):
        outcomes_of([str(file)])


def test_a_file_without_any_note_is_not_exported(tmp_path: Path) -> None:
    (file := tmp_path / "outcomes.jsonl").write_text(LINE % "a")
    result = CliRunner().invoke(app, ["export", "--notes", str(file)])
    assert isinstance(result.exception, InvalidChoice)
    assert "no line is a note" in str(result.exception)


def test_notes_that_are_cut_off_are_skipped(tmp_path: Path) -> None:
    (file := tmp_path / "notes.jsonl").write_text(NOTE + NOTE[:40])
    result = CliRunner().invoke(app, ["export", "--notes", str(file)])
    assert result.exception is None
    assert "1 line(s) that are no notes" in result.stderr
