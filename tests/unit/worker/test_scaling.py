from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from kryonix.topology.catalog import Scaling, default_catalog
from kryonix.worker.worker import ScalingState, decide

WINDOW = 60.0
PRO = default_catalog().plans["pro"].scaling

plans = st.builds(
    lambda consumers, down, gap: Scaling(
        max_consumers_per_queue=consumers,
        scale_down_threshold=down,
        scale_up_threshold=down + gap,
        max_queue_depth=10_000,
    ),
    st.integers(1, 20),
    st.integers(1, 500),
    st.integers(1, 500),
)
moments = st.floats(0, 1e6)
depths = st.integers(0, 20_000)
standings = st.builds(ScalingState, st.integers(0, 30), st.none() | moments)


@given(standings, st.none() | depths, moments, plans)
def test_consumers_stay_between_one_and_the_plans_limit(
    state: ScalingState, depth: int | None, now: float, plan: Scaling
) -> None:
    consumers = decide(state, depth, now, plan, WINDOW).state.consumers
    assert 1 <= consumers <= plan.max_consumers_per_queue


@given(st.data(), moments, plans)
def test_without_figures_scaling_holds_and_its_window_restarts(
    st_data: st.DataObject, now: float, plan: Scaling
) -> None:
    consumers = st_data.draw(st.integers(1, plan.max_consumers_per_queue))
    decision = decide(ScalingState(consumers, now - 10 * WINDOW), None, now, plan, WINDOW)
    assert (decision.move, decision.state) == ("hold", ScalingState(consumers))


@given(st.data(), depths, moments, plans)
def test_a_decision_says_what_happens_to_the_consumers(
    st_data: st.DataObject, depth: int, now: float, plan: Scaling
) -> None:
    before = st_data.draw(st.integers(1, plan.max_consumers_per_queue))
    since = st_data.draw(st.none() | st.floats(0, now))
    decision = decide(ScalingState(before, since), depth, now, plan, WINDOW)
    after = decision.state.consumers
    assert decision.move == ("up" if after > before else "down" if after < before else "hold")
    assert after >= before - 1
    if depth > plan.scale_down_threshold:
        assert after >= before
        assert decision.state.low_since is None
    if depth <= plan.scale_up_threshold * before:
        assert after <= before
    if after < before:
        assert since is not None
        assert now - since >= WINDOW


@given(depths, depths, standings, moments, plans)
def test_a_deeper_queue_never_gets_fewer_consumers(
    one: int, other: int, state: ScalingState, now: float, plan: Scaling
) -> None:
    few, many = sorted((one, other))
    consumers = [decide(state, depth, now, plan, WINDOW).state.consumers for depth in (few, many)]
    assert consumers[0] <= consumers[1]


@given(plans, st.floats(0.5, 30))
def test_an_empty_queue_returns_to_one_consumer_stepwise(plan: Scaling, interval: float) -> None:
    state = decide(ScalingState(), 20_000, 0.0, plan, WINDOW).state
    now, sizes = 0.0, [state.consumers]
    while state.consumers > 1:
        now += interval
        state = decide(state, 0, now, plan, WINDOW).state
        sizes.append(state.consumers)
        assert now <= WINDOW + interval * (plan.max_consumers_per_queue + 2)
    assert all(before - after in (0, 1) for before, after in itertools.pairwise(sizes))


def test_the_plans_scaling_settings_apply() -> None:
    assert decide(ScalingState(), 500, 0, PRO, WINDOW).state == ScalingState(1)
    assert decide(ScalingState(), 501, 0, PRO, WINDOW).state == ScalingState(2)
    assert decide(ScalingState(), 100_000, 0, PRO, WINDOW).state == ScalingState(5)
    assert decide(ScalingState(5), 51, 0, PRO, WINDOW).state == ScalingState(5)
    assert decide(ScalingState(5), 50, 0, PRO, WINDOW).state == ScalingState(5, 0)
    assert decide(ScalingState(5, 0), 50, 59, PRO, WINDOW).state == ScalingState(5, 0)
    assert decide(ScalingState(5, 0), 50, 60, PRO, WINDOW).state == ScalingState(4, 0)
