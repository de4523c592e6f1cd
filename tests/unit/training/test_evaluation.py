"""Evaluation: a model against what it has to beat, in replays and as logged."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from xml.etree import ElementTree

import pytest
from rich.console import Console
from rich.table import Table

from kryonix.cli.output.router import evaluation_report
from kryonix.errors import InvalidChoice
from kryonix.routing.model import Model
from kryonix.training.evaluation import Evaluation, evaluate
from kryonix.training.picture import draw
from kryonix.training.training import train
from tests.support.worlds import RECIPES, changed, make, played

WORLD = make(RECIPES["mixed"], messages=8_000, load=0.95, seed=5)
OUTCOMES = tuple(played(WORLD))
SVG = "{http://www.w3.org/2000/svg}"


@cache
def model() -> Model:
    return replace(train(OUTCOMES[:5_000]).model, version="0123456789ab")


@cache
def evaluation() -> Evaluation:
    return evaluate(model(), OUTCOMES[5_000:])


def test_the_ways_are_in_the_order_of_what_they_know() -> None:
    (action,) = evaluation().actions
    for figures in action.loads[1:]:
        missed = {name: figure.missed for name, figure in figures.ways.items()}
        assert missed["oracle"] < missed["model"] < missed["table"] < missed["rules"]
        assert missed["model"] < missed["shuffled"]


def test_an_interval_holds_its_figure() -> None:
    (action,) = evaluation().actions
    for figures in action.loads:
        assert all(figure.low <= figure.missed <= figure.high for figure in figures.ways.values())
        assert all(figure.p99_ms <= figure.longest_ms for figure in figures.ways.values())


def test_messages_of_the_training_are_told_from_later_ones() -> None:
    assert [each.overlaps for each in evaluation().actions] == [False]
    assert [each.overlaps for each in evaluate(model(), OUTCOMES).actions] == [True]


def test_the_same_world_causes_no_fallback() -> None:
    assert [each.fallback_after for each in evaluation().actions] == [None]


def test_a_changed_world_causes_a_fallback_within_5_000_messages() -> None:
    (action,) = evaluate(model(), played(changed(WORLD, messages=6_000))).actions
    assert action.fallback_after is not None
    assert action.fallback_after <= 5_000
    assert action.fallback_why


def test_logged_misses_are_split_by_who_decided() -> None:
    logged = [
        replace(each, decision="learned" if number % 4 else "explored", propensity=0.75 if number % 4 else 0.25)
        for number, each in enumerate(OUTCOMES)
    ]
    (action,) = evaluate(model(), logged).actions
    explored = [each.missed for each in logged if each.decision == "explored" and each.missed is not None]
    found, wanted = action.logged["explored"], sum(explored) / len(explored)
    assert found.messages == len(explored)
    assert found.missed == pytest.approx(wanted)
    assert found.low <= wanted <= found.high


def test_outcomes_of_other_actions_are_an_error_that_names_them() -> None:
    others = [replace(each, action="leads.other") for each in OUTCOMES[:600]]
    with pytest.raises(InvalidChoice, match=r"leads\.other: the model does not know it"):
        evaluate(model(), others)


def test_the_replayed_half_is_what_the_figures_are_about() -> None:
    (action,) = evaluation().actions
    assert (action.messages, action.replayed) == (3_000, 1_500)
    (table, *_) = evaluation_report(evaluation(), Console(width=140))
    assert isinstance(table, Table)
    assert str(table.title).startswith("crm.leads.create: 1,500 of 3,000 messages replayed")


def test_a_narrow_terminal_still_shows_what_is_missed_and_the_waits() -> None:
    (table, *_) = evaluation_report(evaluation(), Console(width=80))
    assert isinstance(table, Table)
    names = [each.header for each in table.columns]
    assert names[:4] == ["load", "decided by", "missed", "95 % certain"]
    assert {"urgent p95", "longest"} <= set(names)


def test_the_bars_of_each_load_have_a_scale_of_their_own() -> None:
    root = ElementTree.fromstring(draw(evaluation()))
    bars = [float(each.get("height", 0)) for each in root.iter(f"{SVG}rect") if each.find(f"{SVG}title") is not None]
    assert all(max(bars[begin : begin + 6]) > 60 for begin in (0, 6, 12))
    (action,) = evaluation().actions
    said = {each.text for each in root.iter(f"{SVG}text")}
    assert {f"{100 * each.missed:.2f}" for each in action.loads[0].ways.values() if each.missed < 0.1} <= said


def test_the_picture_is_svg_with_a_bar_for_each_figure() -> None:
    root = ElementTree.fromstring(draw(evaluation()))
    bars = [each.text for each in root.iter(f"{SVG}title") if ": " in (each.text or "")]
    assert len(bars) == 18
    assert "0123456789ab" in draw(evaluation())
