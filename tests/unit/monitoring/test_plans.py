"""The limits of plans, and of the next larger one, as series."""

from __future__ import annotations

from dataclasses import replace

from kryonix.monitoring.plans import plan_figures
from kryonix.registry.desired_states import DesiredState
from kryonix.topology.catalog import Catalog, default_catalog

ACME = DesiredState(cliente_id="acme", modules=("crm",), plan="basic")
RESOURCES = {"connections", "queues", "exchanges", "channels", "consumers_per_queue", "queue_depth", "queue_bytes"}


def larger(state: DesiredState, catalog: Catalog) -> dict[str, tuple[str, float]]:
    """Return the next plan and its limit by resource."""
    (family,) = (each for each in plan_figures([state], catalog) if each.name == "kryonix_tenant_larger_plan")
    return {each.labels["resource"]: (each.labels["plano"], each.value) for each in family.samples}


def catalog_with(**plans: dict[str, int]) -> Catalog:
    """Return the catalog with other plans: the basic one with some limits changed."""
    catalog = default_catalog()
    basic = catalog.plans["basic"]
    made = {
        name: basic.model_copy(update={"limits": basic.limits.model_copy(update=limits)})
        for name, limits in plans.items()
    }
    return catalog.model_copy(update={"plans": {"basic": basic, **made}})


def test_every_limit_has_that_of_the_next_plan() -> None:
    pro = default_catalog().plans["pro"]
    found = larger(ACME, default_catalog())
    assert set(found) == RESOURCES
    assert found["connections"] == ("pro", pro.limits.max_connections)
    assert found["queue_depth"] == ("pro", pro.scaling.max_queue_depth)


def test_the_largest_plan_has_no_larger_one() -> None:
    assert larger(replace(ACME, plan="enterprise"), default_catalog()) == {}


def test_a_plan_with_less_of_anything_is_not_larger() -> None:
    catalog = catalog_with(odd={"max_connections": 1000, "max_channels": 1})
    assert larger(ACME, catalog) == {}


def test_the_plan_with_more_of_the_one_resource_is_named() -> None:
    catalog = catalog_with(wide={"max_queues": 60}, busy={"max_queues": 70, "max_connections": 11})
    assert larger(ACME, catalog) == {"queues": ("wide", 60), "connections": ("busy", 11)}


def test_a_plan_too_small_for_the_modules_is_passed_over() -> None:
    modules = tuple(default_catalog().modules)
    catalog = catalog_with(small={"max_queues": 51}, large={"max_queues": 500, "max_exchanges": 50})
    assert larger(replace(ACME, modules=modules), catalog)["queues"] == ("large", 500)


def test_a_module_that_is_sold_no_more_leaves_the_limits() -> None:
    families = {each.name: each.samples for each in plan_figures([replace(ACME, modules=("gone",))], default_catalog())}
    assert families["kryonix_plan_limit"]
    assert not families["kryonix_tenant_larger_plan"]
