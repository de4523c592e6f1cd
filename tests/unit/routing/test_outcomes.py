"""A file of outcomes: each line is one message, and a wrong one is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kryonix.errors import InvalidChoice
from kryonix.routing.outcomes import MAX_LINE, Outcome, lines_in, read_asked, read_outcomes
from tests.support.worlds import RECIPES, make, played

LINE: dict[str, Any] = {
    "module": "crm",
    "action": "leads.create",
    "at": 1_767_600_000.25,
    "message_id": "m-1",
    "bytes": 512,
    "device": "web",
    "shape": "a" * 16,
    "priority": None,
    "expires_ms": 4_000,
    "waited_ms": 12.5,
    "handled_ms": 80.0,
    "attempts": 1,
    "outcome": "done",
    "priority_used": 5,
}
"""As the issue and docs/routing.md give it, without what is optional."""


def read(*lines: bytes) -> list[Outcome]:
    return list(read_outcomes(lines, "outcomes.jsonl"))


def line(**changed: Any) -> bytes:
    return json.dumps(LINE | changed).encode() + b"\n"


def test_a_line_of_the_documented_format_is_read() -> None:
    (outcome,) = read(line())
    assert (outcome.route, outcome.at, outcome.expires_ms, outcome.decision) == (
        "crm.leads.create",
        1_767_600_000.25,
        4_000,
        None,
    )
    assert outcome.known.shape == "a" * 16


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"waited_ms": None, "handled_ms": None, "outcome": "expired", "attempts": 0},
        {"decision": "learned", "propensity": 0.95, "compressed_bytes": 100},
        {"message_id": "ç 名", "priority": 10},
    ],
)
def test_an_outcome_is_read_back_from_its_own_line(changed: dict[str, Any]) -> None:
    (outcome,) = read(line(**changed))
    assert read(outcome.line().encode()) == [outcome]
    assert outcome.line().count("\n") == 1


def test_a_whole_world_is_read_back() -> None:
    outcomes = played(make(RECIPES["mixed"], messages=500))
    assert read(*[each.line().encode() for each in outcomes]) == outcomes


def test_half_a_character_is_written_as_text_that_can_be_read() -> None:
    outcome = replace(read(line())[0], message_id="half\ud800", shape="\0")
    (found,) = read(outcome.line().encode())
    assert (found.message_id, found.shape) == ("half\\ud800", "\0")


def test_no_more_of_an_endless_line_is_read_than_shows_it() -> None:
    with Path("/dev/zero").open("rb") as endless, pytest.raises(InvalidChoice, match="zero:1: more than"):
        list(read_outcomes(lines_in(endless), "zero"))


def test_empty_lines_are_skipped_and_counted() -> None:
    assert len(read(b"\n", line(), b"  \r\n", line())) == 2
    with pytest.raises(InvalidChoice, match=r"^outcomes\.jsonl:3: "):
        read(b"\n", line(), b"x\n")


def test_unknown_fields_are_ignored() -> None:
    assert len(read(line(customer="x"))) == 1


BAD: dict[str, tuple[bytes, str]] = {
    "not JSON": (b"nonsense", "Invalid JSON"),
    "half a line": (line()[:40], "Invalid JSON"),
    "not text": (b'{"module": "\xff"}', "Invalid JSON"),
    "a list": (b"[1]", "object"),
    "a number": (b"7", "object"),
    "no outcome": (json.dumps({k: v for k, v in LINE.items() if k != "outcome"}).encode(), "outcome: Field required"),
    "no priority": (json.dumps({k: v for k, v in LINE.items() if k != "priority"}).encode(), "priority: Field req"),
    "an unknown outcome": (line(outcome="lost"), "outcome: "),
    "a priority of 11": (line(priority=11), "priority: Input should be less than or equal to 10, not 11"),
    "a priority below 0": (line(priority_used=-1), "priority_used: "),
    "half a priority": (line(priority=4.5), "priority: "),
    "a priority as text": (line(priority="5"), "priority: "),
    "a negative wait": (line(waited_ms=-1), "waited_ms: "),
    "a wait that is none": (line(waited_ms=float("nan")), "waited_ms: "),
    "an endless wait": (line(waited_ms=float("inf")), "waited_ms: "),
    "a time as text": (line(at="2026-01-05"), "at: "),
    "a time in milliseconds": (line(at=1_767_600_000_250), "at: "),
    "negative attempts": (line(attempts=-1), "attempts: "),
    "negative bytes": (line(bytes=-1), "bytes: "),
    "a number for a module": (line(module=7), "module: "),
    "a name without an end": (line(action="x" * 256), "action: "),
    "a wait longer than history": (line(waited_ms=1e308), "waited_ms: "),
    "a handling without an end": (line(handled_ms=1e15), "handled_ms: "),
    "more bytes than a float holds": (line(bytes=10**400), "bytes: "),
    "a line without an end": (b" " * MAX_LINE + line(), "more than 1,000,000 bytes"),
    "a propensity of 2": (line(propensity=2), "propensity: "),
}


@pytest.mark.parametrize(("bad", "problem"), BAD.values(), ids=BAD)
def test_a_bad_line_is_refused_by_its_number_and_field(bad: bytes, problem: str) -> None:
    with pytest.raises(InvalidChoice) as caught:
        read(line(), bad, line())
    found = str(caught.value)
    assert found.startswith("outcomes.jsonl:2: ")
    assert problem in found
    assert found.endswith("The format is in docs/routing.md")
    assert len(found) < 400


def test_a_bad_value_is_not_repeated_at_length() -> None:
    with pytest.raises(InvalidChoice) as caught:
        read(line(module=["secret" * 10_000]))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("changed", "missed"),
    [
        ({"waited_ms": 4_000.0}, False),
        ({"waited_ms": 4_000.1}, True),
        ({"waited_ms": None, "handled_ms": None, "outcome": "expired"}, True),
        ({"expires_ms": None}, None),
        ({"expires_ms": None, "outcome": "expired", "waited_ms": None}, None),
    ],
)
def test_a_deadline_is_missed_by_waiting_longer_than_stated(changed: dict[str, Any], missed: bool | None) -> None:
    (outcome,) = read(line(**changed))
    assert outcome.missed is missed


ASKED = {
    name: LINE[name]
    for name in ("module", "action", "at", "message_id", "bytes", "device", "shape", "priority", "expires_ms")
}


def test_a_message_to_decide_needs_no_outcome() -> None:
    (asked,) = read_asked([json.dumps(ASKED).encode()], "asked.jsonl")
    (outcome,) = read(line())
    assert asked.known == outcome.known


@pytest.mark.parametrize("name", sorted(ASKED))
def test_a_message_to_decide_names_what_it_lacks(name: str) -> None:
    fields = {key: value for key, value in ASKED.items() if key != name}
    with pytest.raises(InvalidChoice, match=rf"^asked\.jsonl:1: {name}: Field required"):
        list(read_asked([json.dumps(fields).encode()], "asked.jsonl"))


def test_replaced_outcomes_keep_what_was_known() -> None:
    (outcome,) = read(line())
    assert replace(outcome, outcome="dead").known == outcome.known
