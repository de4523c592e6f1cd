"""The limits of tenants' plans as series, and those of the next larger plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric

from kryonix.registry.desired_states import DesiredState
from kryonix.topology.capacity import Use, use
from kryonix.topology.catalog import Catalog, Plan
from kryonix.topology.expansion import expand
from kryonix.topology.tenants import Tenant

_THRESHOLDS: Final = ("scale_up_threshold", "scale_down_threshold")
"""Of a plan, and no limits of it."""


def limits_of(plan: Plan) -> dict[str, int]:
    """Return a plan's limits and thresholds by resource."""
    return {
        name.removeprefix("max_"): value
        for name, value in {**plan.limits.model_dump(), **plan.scaling.model_dump()}.items()
    }


def plan_figures(states: Iterable[DesiredState], catalog: Catalog) -> list[Metric]:
    """Return each tenant's limits, and per limit that of the smallest plan with more.

    A tenant whose plan the catalog lacks has no limits; without a fitting plan the second is absent.
    """
    limit = GaugeMetricFamily(
        "kryonix_plan_limit", "A limit or threshold of the tenant's plan.", labels=["cliente_id", "resource"]
    )
    larger = GaugeMetricFamily(
        "kryonix_tenant_larger_plan",
        "The limit in the smallest plan above the tenant's own that admits it.",
        labels=["cliente_id", "resource", "plano"],
    )
    used = _cached_use(catalog)
    for state in states:
        plan = catalog.plans.get(state.plan)
        if plan is None:
            continue
        limits = limits_of(plan)
        for resource, value in limits.items():
            limit.add_metric([state.cliente_id, resource], value)
        if not all(module in catalog.modules for module in state.modules):
            continue
        for resource, name in _larger_plans(state.plan, used(state.modules, state.plan), catalog).items():
            value = limits_of(catalog.plans[name])[resource]
            larger.add_metric([state.cliente_id, resource, name], value)
    return [limit, larger]


def _larger_plans(own: str, used: Use, catalog: Catalog) -> dict[str, str]:
    """Return per resource the smallest plan that has more of it, no less of anything else, and admits the use.

    With no less of anything, it admits the connections and messages that the tenant has now.
    """
    present = _bounds(catalog.plans[own])
    above = [
        (plan.limits.max_queues, name)
        for name, plan in catalog.plans.items()
        if used.fits(plan.limits) and all(value >= present[key] for key, value in _bounds(plan).items())
    ]
    found = {}
    for resource, value in present.items():
        more = [each for each in above if _bounds(catalog.plans[each[1]])[resource] > value]
        if more:
            found[resource] = min(more)[1]
    return found


def _bounds(plan: Plan) -> dict[str, int]:
    return {name: value for name, value in limits_of(plan).items() if name not in _THRESHOLDS}


def _cached_use(catalog: Catalog) -> Callable[[tuple[str, ...], str], Use]:
    """Return a function for the use of modules on a plan: most tenants have one of a few sets of modules."""

    @cache
    def used(modules: tuple[str, ...], plan: str) -> Use:
        return use(expand(Tenant(id="any-tenant", modules=modules, plan=plan), catalog))

    return used
