from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kryonix.fleet.waves import Canary, FailureBudget, InvalidRollout, plan_waves, spread
from kryonix.registry.desired_states import DesiredState

FLEETS = st.lists(st.integers(0, 10**6).map(lambda n: f"t{n:06}"), unique=True, max_size=60)


@given(FLEETS, st.integers(0, 70), st.integers(1, 70))
def test_every_tenant_is_in_one_wave_in_order(fleet: list[str], canaries: int, size: int) -> None:
    assert list(chain.from_iterable(plan_waves(fleet, Canary(canaries), size))) == fleet


@given(FLEETS, st.integers(0, 70), st.integers(1, 70))
def test_waves_grow_by_the_wave_size(fleet: list[str], canaries: int, size: int) -> None:
    first, *rest = plan_waves(fleet, Canary(canaries), size)
    assert len(first) == min(canaries, len(fleet))
    sizes = [size * number for number in range(1, len(rest) + 1)]
    assert [len(wave) for wave in rest[:-1]] == sizes[:-1]
    assert not rest or 0 < len(rest[-1]) <= sizes[-1]


@given(FLEETS.filter(bool), st.data())
def test_named_canaries_go_first(fleet: list[str], data: st.DataObject) -> None:
    named = data.draw(st.lists(st.sampled_from(fleet), unique=True, min_size=1))
    first, *rest = plan_waves(fleet, Canary.parse(",".join(named)), 3)
    assert list(first) == named
    assert sorted(chain(first, *rest)) == sorted(fleet)


@given(st.lists(st.tuples(FLEETS.map(len), st.sampled_from("abc")), max_size=30))
def test_the_first_wave_has_one_tenant_of_each_cell(rows: list[tuple[int, str]]) -> None:
    fleet = [
        DesiredState(cliente_id=f"t{number:03}", modules=("crm",), plan="pro", cell=cell)
        for number, (_, cell) in enumerate(rows)
    ]
    cell_of = {row.cliente_id: row.cell for row in fleet}
    ordered = spread(fleet)
    assert sorted(ordered) == sorted(cell_of)
    cells = set(cell_of.values())
    assert {cell_of[name] for name in ordered[: len(cells)]} == cells
    assert spread(reversed(fleet)) == ordered, "the order does not hang on that of the rows"


def test_an_unknown_canary_is_refused_by_name() -> None:
    with pytest.raises(InvalidRollout, match=r"'acne' is not a tenant of the rollout; .*did you mean 'acme'"):
        plan_waves(["acme", "beta"], Canary.parse("acne"), 10)


@pytest.mark.parametrize("text", ["", ",", "acme,,beta"])
def test_a_canary_without_a_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidRollout, match="neither a number nor tenants"):
        Canary.parse(text)


@pytest.mark.parametrize("text", ["", "-1", "x", "101%", "5 %", "1.5", "%"])
def test_an_invalid_budget_is_refused(text: str) -> None:
    with pytest.raises(InvalidRollout, match="neither a number nor a percentage"):
        FailureBudget.parse(text)


@pytest.mark.parametrize(
    ("text", "tenants", "allowed"), [("0", 50, 0), ("3", 2, 3), ("10%", 50, 5), ("10%", 9, 0), ("2.5%", 1000, 25)]
)
def test_a_budget_is_a_number_or_a_percentage_rounded_down(text: str, tenants: int, allowed: int) -> None:
    budget = FailureBudget.parse(text)
    assert budget.allowed(tenants) == allowed
    assert FailureBudget.parse(str(budget)) == budget
