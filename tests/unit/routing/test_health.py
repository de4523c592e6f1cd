"""How a model does on outcomes: drift, errors, and missed deadlines by who decided."""

from __future__ import annotations

import math
from typing import Any

import pytest

from kryonix.routing.health import health
from kryonix.routing.outcomes import Outcome
from tests.support.routing_models import URGENT, known, learned, model, spread


def outcome(number: int, **changed: Any) -> Outcome:
    fields: dict[str, Any] = {
        "module": "crm",
        "action": "leads.create",
        "at": 1_767_600_000.0 + number,
        "message_id": f"m-{number}",
        "bytes": 2_000,
        "device": "web",
        "shape": URGENT,
        "priority": None,
        "expires_ms": 500.0,
        "waited_ms": 100.0,
        "handled_ms": 100.0,
        "attempts": 1,
        "outcome": "done",
        "priority_used": 9,
    }
    return Outcome(**fields | changed)


def test_a_model_that_predicts_well_has_no_problem() -> None:
    (found,) = health(model(), [outcome(number, handled_ms=100.0 * math.e) for number in range(400)])
    assert (found.action, found.messages, found.problem) == ("crm.leads.create", 400, None)
    assert found.error_time == pytest.approx(1.0)
    assert found.error_left == pytest.approx(0.0)


def test_a_doubled_error_is_the_problem() -> None:
    (found,) = health(model(), [outcome(number, handled_ms=10_000.0) for number in range(400)])
    assert found.problem is not None
    assert "handling times has doubled" in found.problem


def test_drift_is_the_problem() -> None:
    actions = {"crm.leads.create": learned(spreads={"device": spread([known(device="web")] * 10, "device")})}
    (found,) = health(model(actions), [outcome(number, device="mobile") for number in range(1_000)])
    assert found.drifts["device"] > 0.25
    assert found.problem is not None
    assert "device is spread differently" in found.problem


def test_missed_deadlines_are_told_by_who_decided() -> None:
    late, soon = {"waited_ms": 900.0}, {"waited_ms": 100.0}
    decided = [("learned", soon), ("learned", late), ("explored", late), ("rules", soon)]
    (found,) = health(model(), [outcome(n, decision=who, **wait) for n, (who, wait) in enumerate(decided)])
    assert found.missed == {"learned": 0.5, "explored": 1.0, "rules": 0.0}


def test_actions_that_the_model_does_not_know_are_left_out() -> None:
    assert health(model(), [outcome(1, module="whatsapp", action="messages.send")]) == []
