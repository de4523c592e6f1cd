"""Rows of tenants: their cell, wait and limits, sorted and filtered."""

from __future__ import annotations

import math
from typing import Any

import pytest

from kryonix.monitoring.overview import SORTS, Row, arranged, overview, row_json
from kryonix.monitoring.traffic import Traffic
from kryonix.registry.desired_states import DesiredState
from kryonix.topology.catalog import default_catalog

CATALOG = default_catalog()
BASIC = CATALOG.plans["basic"]


def state(id: str, cell: str = "main", **fields: Any) -> DesiredState:
    return DesiredState(**{"cliente_id": id, "modules": ("crm",), "plan": "basic", "cell": cell, **fields})


def rows_of(
    *states: DesiredState, old: tuple[str, ...] = (), waits: dict[str, float] | None = None, **traffic: Traffic
) -> dict[str, Row]:
    """Return the rows by tenant; the traffic is that of cell `main`."""
    found = overview(states, {"main": traffic}, old, waits or {}, CATALOG)
    return {row.tenant: row for row in found}


def test_a_row_has_the_share_of_each_limit_and_the_fullest() -> None:
    use = Traffic(
        deepest=BASIC.scaling.max_queue_depth // 2,
        connections=BASIC.limits.max_connections,
        channels=1,
        queues=BASIC.limits.max_queues,
    )
    row = rows_of(state("acme"), acme=use)["acme"]
    assert row.fullest == ("connections", 1.0)
    assert row.shares["depth"] == 0.5


def test_the_workers_wait_comes_before_an_estimate() -> None:
    traffic = Traffic(ready=10, deliver_rate=1.0)
    found = rows_of(
        state("acme"),
        state("beta"),
        state("gone"),
        state("stuck"),
        waits={"acme": 3.0},
        acme=traffic,
        beta=traffic,
        stuck=Traffic(ready=1),
    )
    assert {id: (row.wait_s, row.wait_source) for id, row in found.items()} == {
        "acme": (3.0, "workers"),
        "beta": (10.0, "estimate"),
        "gone": (None, None),
        "stuck": (math.inf, "estimate"),
    }


def test_a_tenants_cell_is_the_one_that_has_its_vhost() -> None:
    listed = state("acme", cell="unknown")
    row = rows_of(listed, acme=Traffic(depth=3))["acme"]
    assert (row.cell, row.traffic and row.traffic.depth) == ("main", 3)


def test_a_tenant_without_vhost_or_registry_row_is_shown_so() -> None:
    found = rows_of(state("acme"), state("away", cell="other"), stray=Traffic(depth=1))
    assert {id: row.state for id, row in found.items()} == {"acme": "no vhost", "away": "active", "stray": "?"}


def test_figures_of_a_cell_that_is_away_are_marked_as_old() -> None:
    found = rows_of(state("acme"), old=("main",), acme=Traffic(depth=1), stray=Traffic())
    assert [row.old for row in found.values()] == [True, True]


def test_a_plan_that_the_catalog_lacks_has_no_shares() -> None:
    assert rows_of(state("acme", plan="gold"), acme=Traffic())["acme"].fullest is None


ROWS = [
    Row(tenant="big", cell="main", plan="pro", state="active", traffic=Traffic(depth=9), wait_s=1.0),
    Row(tenant="all", cell="main", plan="basic", state="suspended", traffic=Traffic(depth=1), wait_s=math.inf),
    Row(tenant="mid", cell="eu", plan="pro", state="active", traffic=Traffic(depth=9), shares={"depth": 0.5}),
    Row(tenant="lost", cell="eu", plan="pro", state="active", traffic=None),
]


@pytest.mark.parametrize(
    ("sort", "reverse", "order"),
    [
        ("depth", False, ["big", "mid", "all", "lost"]),
        ("depth", True, ["all", "big", "mid", "lost"]),
        ("wait", False, ["all", "big", "lost", "mid"]),
        ("limit", False, ["mid", "all", "big", "lost"]),
        ("tenant", False, ["all", "big", "lost", "mid"]),
        ("tenant", True, ["mid", "lost", "big", "all"]),
    ],
)
def test_rows_are_sorted_and_unknown_figures_come_last(sort: str, reverse: bool, order: list[str]) -> None:
    assert [row.tenant for row in arranged(ROWS, sort, reverse, "")] == order


@pytest.mark.parametrize("sort", SORTS)
def test_every_column_sorts_rows_without_figures(sort: str) -> None:
    assert len(arranged(ROWS, sort, False, "")) == 4


@pytest.mark.parametrize(
    ("wanted", "found"),
    [("PRO", {"big", "mid", "lost"}), ("eu", {"mid", "lost"}), ("suspended", {"all"}), ("x", set())],
)
def test_a_filter_looks_at_tenant_cell_plan_and_state(wanted: str, found: set[str]) -> None:
    assert {row.tenant for row in arranged(ROWS, "depth", False, f" {wanted} ")} == found


def test_json_has_null_for_what_is_not_known() -> None:
    lost, stuck = row_json(ROWS[3]), row_json(ROWS[1])
    assert (lost["depth"], lost["in_per_s"], lost["wait_s"]) == (None, None, None)
    assert (stuck["depth"], stuck["wait_s"]) == (1, None)
