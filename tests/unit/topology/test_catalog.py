from __future__ import annotations

import pytest

from kryonix.topology.catalog import MIB, default_catalog, duration_ms, parse_catalog, size_text
from kryonix.topology.errors import InvalidInput

HOUR_MS, DAY_MS = 3_600_000, 86_400_000

CATALOG = b"""
modules:
  crm: {actions: [leads.create], retention: 24h, priority_levels: 3, mobile_priority: true, ai_routing: true}
plans:
  basic:
    limits: {max_connections: 10, max_queues: 50, max_exchanges: 10, max_channels: 100}
    scaling: {max_consumers_per_queue: 2, scale_up_threshold: 100, scale_down_threshold: 10, max_queue_depth: 1000}
retry: {strategy: native, first_delay: 1s, max_delay: 1m, limit: 3}
mobile: {max_length: 50000}
dead_letters: {retention: 24h, max_length: 10000}
"""


def test_the_catalog_has_the_source_documents_modules() -> None:
    modules = default_catalog().modules
    facts = {
        name: (len(m.actions), m.retention // HOUR_MS, m.priority_levels, m.mobile_priority, m.ai_routing)
        for name, m in modules.items()
    }
    assert facts == {
        "crm": (7, 24, 3, True, True),
        "whatsapp": (6, 7 * 24, 5, True, True),
        "agendamento": (5, 30 * 24, 4, True, True),
        "financeiro": (5, 90 * 24, 5, False, True),
        "marketing": (5, 14 * 24, 3, True, True),
        "analytics": (5, 7 * 24, 2, True, True),
        "portal": (5, 30 * 24, 2, True, False),
        "whitelabel": (5, 7 * 24, 2, False, False),
    }
    assert sum(len(m.actions) for m in modules.values()) == 43
    assert {name for name, m in modules.items() if m.business_critical} == {"financeiro", "crm"}


def test_the_catalog_has_the_source_documents_plans() -> None:
    plans = default_catalog().plans
    facts = {name: (*p.limits.model_dump().values(), *p.scaling.model_dump().values()) for name, p in plans.items()}
    assert facts == {
        "basic": (10, 50, 10, 100, 2, 100, 10, 1000, 8 * MIB),
        "pro": (50, 200, 25, 500, 5, 500, 50, 5000, 32 * MIB),
        "enterprise": (100, 500, 50, 1000, 10, 1000, 100, 10000, 64 * MIB),
    }


def test_a_catalog_without_byte_limits_gets_the_defaults() -> None:
    found = parse_catalog(CATALOG, "catalog.yaml")
    assert {plan.scaling.max_queue_bytes for plan in found.plans.values()} == {64 * MIB}
    assert found.dead_letters.max_bytes == 16 * MIB


@pytest.mark.parametrize("written", ["8", "8MB", "0MiB", "1.5MiB", "-1MiB", "8 MiB"])
def test_an_invalid_size_is_refused_with_an_example(written: str) -> None:
    wrong = CATALOG.replace(b"max_queue_depth: 1000", f"max_queue_depth: 1000, max_queue_bytes: {written}".encode())
    with pytest.raises(InvalidInput, match=r"is not a valid size \(a whole number above 0 and KiB"):
        parse_catalog(wrong, "catalog.yaml")


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0MiB"), (1, "1MiB"), (16 * MIB, "16MiB"), (1536 * MIB, "1536MiB"), (2048 * MIB, "2GiB")]
)
def test_a_size_is_shown_in_whole_units_rounded_up(number: int, text: str) -> None:
    assert size_text(number) == text


def test_a_module_is_added_by_data_alone() -> None:
    flags = b"priority_levels: 2, mobile_priority: false, ai_routing: false"
    module = b"  estoque: {actions: [itens.baixar], retention: 2d, " + flags + b"}\n"
    text = CATALOG.replace(b"plans:", module + b"plans:")
    assert parse_catalog(text, "catalog.yaml").modules["estoque"].retention == 2 * DAY_MS


@pytest.mark.parametrize(("text", "ms"), [("1s", 1_000), ("5m", 300_000), ("24h", 24 * HOUR_MS), ("90d", 90 * DAY_MS)])
def test_a_duration_is_read_in_ms(text: str, ms: int) -> None:
    assert duration_ms(text) == ms


@pytest.mark.parametrize("text", ["", "0h", "h", "1.5h", "-1h", "24", "24 h", "1w", 24, None, "9999999999d"])
def test_an_invalid_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="not a valid duration"):
        duration_ms(text)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"retention: 24h, pri", b"retention: 1 day, pri", "not a valid duration"),
        (b"leads.create]", b"leads.create, leads.create]", "twice"),
        (b"leads.create]", b"leads.dlq]", "'dlq'"),
        (b"leads.create]", b"Leads]", "not a valid action name"),
        (b"leads.create]", b"x.high]", "'high'"),
        (b"max_queues: 50", b"max_queues: many", "expected a whole number"),
        (b"strategy: native", b"strategy: natve", "did you mean 'native'?"),
        (b"max_delay: 1m", b"max_delay: 1s", None),
        (b"first_delay: 1s", b"first_delay: 2m", "below first_delay"),
        (b"mobile: {max_length: 50000}", b"", "'mobile' is missing"),
        (b"ai_routing: true}", b"ai_routing: true, priority_lanes: {nope: [high]}}", "not an action of the module"),
        (b"ai_routing: true}", b"ai_routing: true, ai_router: true}", "did you mean 'ai_routing'?"),
        (b"  crm:", b"  c.r.m:", "not a valid module or plan name"),
    ],
)
def test_an_invalid_catalog_is_refused_with_value_and_place(old: bytes, new: bytes, said: str | None) -> None:
    text = CATALOG.replace(old, new)
    assert text != CATALOG
    if said is None:
        parse_catalog(text, "catalog.yaml")
        return
    with pytest.raises(InvalidInput, match=r"catalog\.yaml:\d+") as caught:
        parse_catalog(text, "catalog.yaml")
    assert said in str(caught.value)
