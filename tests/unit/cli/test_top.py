"""The table of `kryonix top`, on terminals of any size, and its keys."""

from __future__ import annotations

import io
import math
from datetime import datetime

import pytest
from rich.console import Console

from kryonix.cli.output.top import Choice, Reading, frame, reading_json, wait_text
from kryonix.monitoring.overview import SORTS, Row
from kryonix.monitoring.traffic import Traffic

AT = datetime(2026, 11, 28, 12, 0, 0)


def row(tenant: str, depth: int = 0, wait_s: float | None = 0.0, old: bool = False, **fields: float) -> Row:
    traffic = Traffic(depth=depth, ready=depth, **fields)  # type: ignore[arg-type] # counts are integers, rates floats
    shares = {"depth": depth / 1000}
    return Row(
        tenant=tenant,
        cell="main",
        plan="basic",
        state="active",
        traffic=traffic,
        wait_s=wait_s,
        wait_source="estimate",
        shares=shares,
        old=old,
    )


def shown(reading: Reading, choice: Choice, width: int = 140, height: int = 20, *, live: bool = True) -> list[str]:
    written = io.StringIO()
    console = Console(file=written, width=width, height=height, color_system=None)
    console.print(frame(reading, choice, console, live=live))
    return [line.rstrip() for line in written.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "~0 s"),
        (0.034, "~0.034 s"),
        (2.54, "~2.5 s"),
        (75.0, "~75 s"),
        (150.0, "~2 min"),
        (8_000.0, "~2 h"),
        (200_000.0, "~2 d"),
        (math.inf, "∞"),
        (None, "?"),
    ],
)
def test_a_wait_has_a_unit_and_an_estimate_its_mark(seconds: float | None, text: str) -> None:
    assert wait_text(row("acme", wait_s=seconds)) == text


def test_a_wait_that_workers_measured_has_no_mark() -> None:
    measured = Row(
        tenant="a", cell="", plan="", state="", traffic=Traffic(), wait_s=3.0, wait_source="workers", shares={}
    )
    assert wait_text(measured) == "3 s"


def test_all_columns_are_shown_where_they_fit() -> None:
    lines = shown(Reading(at=AT, rows=[row("acme", 820, consumers=2, publish_rate=1234.5)]), Choice())
    assert "12:00:00  1 tenant(s) by depth" in lines[0]
    names = "tenant cell plan state depth dead in/s out/s wait consumers connections fullest limit"
    assert lines[2].replace("┃", " ").split() == names.split()
    assert "1,234.5" in lines[4]
    assert "82% depth" in lines[4]
    assert lines[-1] == "s sort  r reverse  f filter  j/k page  q quit"


@pytest.mark.parametrize("width", [24, 40, 60, 80, 100])
def test_a_narrow_terminal_keeps_tenant_and_depth_whole(width: int) -> None:
    lines = shown(Reading(at=AT, rows=[row("acme", 1_234_567)]), Choice(), width)
    assert any("acme" in line and "1,234,567" in line for line in lines)
    assert max(map(len, lines)) <= width


def test_a_live_table_fits_the_screen_and_has_pages() -> None:
    reading, choice = Reading(at=AT, rows=[row(f"t{n:03}", n) for n in range(100)]), Choice()
    first = shown(reading, choice)
    assert len(first) <= 20
    assert "page 1 of 8" in first[0]
    assert "t099" in first[4]
    choice.press("j")
    assert "page 2 of 8" in shown(reading, choice)[0]
    for _ in range(99):
        choice.press("j")
    assert any("t000" in line for line in shown(reading, choice))
    choice.press("k")
    assert "page 7 of 8" in shown(reading, choice)[0]


def test_a_printed_table_has_every_row_and_no_keys() -> None:
    lines = shown(Reading(at=AT, rows=[row(f"t{n:03}", n) for n in range(100)]), Choice(), live=False)
    assert len([line for line in lines if "│ t" in line]) == 100
    assert "quit" not in lines[-1]


def test_what_does_not_answer_is_named_with_the_age_of_its_figures() -> None:
    problems = {"cell main": "the broker at http://x does not answer", "registry": "away"}
    lines = shown(Reading(at=AT, rows=[row("acme", 5, old=True)], cells={"main": AT}, problems=problems), Choice())
    assert "cell main (figures of 12:00:00): the broker at http://x does not answer" in lines
    assert "registry: away" in lines


def test_an_unread_tenant_has_question_marks_and_no_zeros() -> None:
    unread = Row(tenant="acme", cell="main", plan="basic", state="active", traffic=None)
    (line,) = [line for line in shown(Reading(at=AT, rows=[unread]), Choice()) if "acme" in line]
    assert line.count("?") == 8
    assert "0" not in line


def test_keys_sort_reverse_filter_and_quit() -> None:
    choice = Choice()
    sorts = list(SORTS)
    choice.press("s")
    assert choice.sort == sorts[1]
    for _ in sorts[1:]:
        choice.press("s")
    assert choice.sort == sorts[0]
    for key in ("r", "f", *"acmx", "\x7f", "e", "x", "\x7f", "s", "\x08", "\r"):
        choice.press(key)
    assert (choice.reverse, choice.wanted, choice.sort, choice.typing) == (True, "acme", "depth", None)
    for key in ("/", "z", "\x1b"):
        choice.press(key)
    assert choice.wanted == "acme", "Esc leaves the filter as it was"
    choice.press("\x1b")
    assert choice.wanted == "", "Esc outside removes it"
    choice.press("q")
    assert choice.ended


def test_a_filter_being_typed_is_shown_instead_of_the_keys() -> None:
    reading, choice = Reading(at=AT, rows=[row("acme"), row("beta")]), Choice()
    for key in "fbe":
        choice.press(key)
    assert shown(reading, choice)[-1].startswith("filter: be")
    choice.press("\n")
    lines = shown(reading, choice)
    assert "1 of 2 tenant(s), filter 'be'" in lines[0]
    assert not any("acme" in line for line in lines)


def test_json_is_sorted_and_filtered_too() -> None:
    reading = Reading(at=AT, rows=[row("acme", 1), row("beta", 2), row("gamma", 3)], cells={"main": None})
    found = reading_json(reading, Choice(wanted="a", reverse=True))
    assert [each["tenant"] for each in found["tenants"]] == ["acme", "beta", "gamma"]
    assert (found["cells"], found["problems"]) == ({"main": {"read_at": None}}, {})
