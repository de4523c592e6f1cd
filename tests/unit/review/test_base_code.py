"""Expansions round-trip as text, so the base's can be compared with the current one."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from kryonix.review.base.expander import write_topology
from kryonix.review.base.sides import read_topology
from tests.support.review_examples import CATALOG, topology


@given(
    modules=st.lists(st.sampled_from(sorted(CATALOG.modules)), min_size=1, unique=True),
    plan=st.sampled_from(sorted(CATALOG.plans)),
    status=st.sampled_from(["active", "suspended"]),
)
def test_an_expansion_round_trips(modules: list[str], plan: str, status: str) -> None:
    before = topology(*modules, plan=plan, status=status)
    text = write_topology(before)
    assert "\n" not in text
    assert read_topology(text) == before


def test_a_module_or_plan_that_is_gone_is_still_read() -> None:
    plain = json.loads(write_topology(topology()))
    plain["tenant"] |= {"modules": ["fax"], "plan": "gold"}
    assert read_topology(json.dumps(plain)).tenant.plan == "gold"
