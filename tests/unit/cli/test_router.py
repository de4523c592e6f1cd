"""`kryonix router`: decisions a line each, and what a model is."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from kryonix.cli.output.router import model_json, model_report
from kryonix.cli.router import answers, lines_of
from kryonix.cli.router_models import model_of
from kryonix.errors import InvalidChoice
from kryonix.routing.learned import Errors
from kryonix.routing.model import read_model, write_model
from kryonix.routing.outcomes import read_asked
from tests.support.routing_models import URGENT, known, learned, model

CONSOLE = Console(width=140)
ROUTE = "crm.leads.create"
TRAINED = replace(
    model(explore=0.0), refused={"crm.leads.update": "only 400 messages, at least 1,000 are needed"}, tenants=("acme",)
)


def asked(**changed: Any) -> dict[str, Any]:
    return asdict(known(**changed))


def answered(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    lines = [json.dumps(each).encode() for each in messages]
    return [json.loads(line) for line in answers(TRAINED, read_asked(lines, "messages.jsonl"))]


def test_messages_are_answered_in_order_with_the_models_reason() -> None:
    first, second = answered(asked(message_id="a", shape="other"), asked(message_id="b", shape=URGENT))
    assert (first["message_id"], first["priority"], second["message_id"], second["priority"]) == ("a", 3, "b", 9)
    assert second["reason"].startswith("learned: priority 9, earlier for its kind of payload")


def test_the_rules_decide_an_action_that_was_not_learned() -> None:
    (unknown,) = answered(asked(module="whatsapp", action="messages.send", expires_ms=1_000))
    assert (unknown["priority"], unknown["reason"]) == (8, "rules: the model has not learned whatsapp.messages.send")


def test_the_rules_decide_an_action_that_was_refused() -> None:
    (refused,) = answered(asked(action="leads.update", priority=7))
    assert (refused["priority"], refused["reason"]) == (7, "rules: only 400 messages, at least 1,000 are needed")


def test_lines_before_a_wrong_one_are_answered() -> None:
    lines = [json.dumps(asked()).encode(), b'{"module": 1}']
    found = answers(TRAINED, read_asked(lines, "messages.jsonl"))
    assert b'"m-1"' in next(found)
    with pytest.raises(InvalidChoice, match=r"messages\.jsonl:2: "):
        next(found)


def test_no_more_of_an_endless_line_is_read_than_shows_it() -> None:
    with pytest.raises(InvalidChoice, match=r"^input:1: more than"):
        list(answers(TRAINED, read_asked(lines_of(lambda size: b"x" * size, lambda: None), "input")))


def test_an_endless_file_is_no_model() -> None:
    with pytest.raises(InvalidChoice, match=r"/dev/zero: it is larger than a model may be"):
        model_of(Path("/dev/zero"))


def test_an_error_without_measure_is_shown_as_such() -> None:
    hopeless = replace(learned(), errors=Errors(time=100.0, left=0.5))
    (_, table) = model_report(model({ROUTE: hopeless}), CONSOLE)
    with CONSOLE.capture() as shown:
        CONSOLE.print(table)
    assert "over × 1,000,000" in shown.get()


def test_lines_are_found_in_blocks_of_any_size() -> None:
    text, reads = b"one\ntwo\n\nlong long line\nlast", []
    for size in range(1, len(text) + 1):
        stream = BytesIO(text)
        found = list(lines_of(lambda _, size=size, stream=stream: stream.read(size), lambda: reads.append(1)))  # type: ignore[misc]
        assert found == [b"one", b"two", b"", b"long long line", b"last"]
    assert reads


def test_answers_are_handed_over_before_the_next_read() -> None:
    events: list[str] = []
    blocks = iter([b"one\ntwo\n", b"three\n", b""])

    def read(_: int) -> bytes:
        events.append("read")
        return next(blocks)

    events.extend(line.decode() for line in lines_of(read, lambda: events.append("handed over")))
    assert events == ["read", "one", "two", "handed over", "read", "three", "handed over", "read"]


def test_a_model_is_shown_without_its_trees() -> None:
    content, version = write_model(TRAINED)
    found = model_json(read_model(content, "model.json"))
    action = found["actions"][ROUTE]
    assert (found["version"], found["messages"], found["tenants"]) == (version, 5_000, ["acme"])
    assert (action["messages"], action["trees"], len(action["levels"])) == (5_000, {"time": 1, "left": 1}, 8)
    assert action["features"] == {"shape: left": 1.0}
    with CONSOLE.capture() as capture:
        for each in model_report(read_model(content, "model.json"), CONSOLE):
            CONSOLE.print(each)
    text = capture.get()
    for said in (version, "5,000 messages", "of acme", ROUTE, "shape 100 %", "crm.leads.update", "only 400 messages"):
        assert said in text
