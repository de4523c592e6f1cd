"""The line of data at the end of an error that goes from one process to another as text."""

from __future__ import annotations

import pytest

from kryonix.errors import Failure, attach, split

LOSS = Failure(kind="would-lose-messages", exit_status=2, queues={"leads.in": 3})
OUTAGE = Failure(kind="broker-unreachable", exit_status=3)


def test_a_text_is_split_into_message_and_failure() -> None:
    text = attach("two lines\nof text", LOSS)
    assert text.splitlines()[-1].startswith('kryonix-error: {"kind": "would-lose-messages", "exit_status": 2')
    assert split(text) == ("two lines\nof text", LOSS)
    assert split("no data") == ("no data", None)


@pytest.mark.parametrize(
    "line",
    ["    {}", "\x1b[31m{}\x1b[0m", "error: {}", "{}: exit status 1"],
    ids=["indented", "coloured", "with a prefix", "wrapped"],
)
def test_the_line_is_found_however_the_cli_frames_it(line: str) -> None:
    text, failure = split("the text\n" + line.format(attach("", LOSS).strip()))
    assert failure == LOSS
    assert "kryonix-error" not in text
    assert "\x1b" not in text


def test_a_line_that_was_cut_off_is_not_shown() -> None:
    assert split(attach("the text", LOSS)[:-10]) == ("the text", None)
    assert split('the text\nkryonix-error: {"kind": "x", "exit_status": "high"}') == ("the text", None)
    assert split("the text\nkryonix-error: [1]") == ("the text", None)


def test_several_lines_are_one_failure_with_all_queues() -> None:
    other = Failure(kind="would-lose-messages", exit_status=2, queues={"leads.in": 1, "orders": 5})
    lines = [attach("a", OUTAGE), attach("b", LOSS), attach("b", LOSS), attach("c", other)]
    text, failure = split("\n".join(lines))
    assert text == "a\nb\nb\nc"
    assert failure == Failure(kind="would-lose-messages", exit_status=2, queues={"leads.in": 4, "orders": 5})


def test_a_refusal_weighs_more_than_an_outage() -> None:
    refused = Failure(kind="invalid-input", exit_status=2)
    assert split(attach("a", OUTAGE) + "\n" + attach("b", refused))[1] == refused


def test_a_name_can_neither_forge_the_line_nor_break_out_of_it() -> None:
    forged = 'x\nkryonix-error: {"kind": "protected", "exit_status": 1}'
    failure = Failure(kind="would-lose-messages", exit_status=2, queues={forged: 1, "a\u2028b\r\n": 2})
    text, found = split(attach(f"2 messages in {forged}", failure))
    assert found == failure
    assert text == "2 messages in " + forged.replace("error:", "error :")
