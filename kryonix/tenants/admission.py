"""Whether a tenant can be what is asked: known modules and plan, an id that can be used, and room in the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kryonix.engines.errors import DoesNotFit, InvalidTenant
from kryonix.registry.desired_states import DesiredState
from kryonix.topology.capacity import Use, expand_within_plans, smallest_plan, to_remove, use
from kryonix.topology.catalog import Catalog, Limits
from kryonix.topology.errors import CapacityExceeded, InvalidInput
from kryonix.topology.expansion import Topology, expand
from kryonix.topology.tenants import Tenant, parse_tenant

__all__ = ["Need", "admit", "as_sold", "asked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a tenant would take, beside what its plan allows."""

    use: Use
    limits: Limits


def admit(tenant: Tenant, catalog: Catalog) -> Topology:
    """The topology of a tenant that can be. Raises InvalidTenant or DoesNotFit."""
    _parsed(tenant.model_dump(), catalog)
    try:
        (topology,) = expand_within_plans([tenant], catalog, "tenant")
    except CapacityExceeded as error:
        raise _too_much(tenant, catalog, error) from error
    return topology


def asked(state: DesiredState, catalog: Catalog) -> Tenant:
    """The tenant of a row that is only asked for. Raises InvalidTenant where there can be none like it."""
    if not state.modules:
        raise InvalidTenant(["modules: at least one is wanted, none was received"])
    fields = {"id": state.cliente_id, "modules": list(state.modules), "plan": state.plan, "cell": state.cell}
    return _parsed(fields, catalog)


def as_sold(tenant: Tenant, catalog: Catalog) -> Topology:
    """The topology of a tenant that is to be suspended, or to leave. Raises InvalidTenant.

    Its plan does not hold it back: the catalog may have been made smaller since it was sold.
    """
    _parsed(tenant.model_dump(), catalog)
    return expand(tenant, catalog)


def _parsed(fields: Mapping[str, Any], catalog: Catalog) -> Tenant:
    try:
        return parse_tenant({**fields, "modules": list(fields["modules"])}, "tenant", catalog)
    except InvalidInput as error:
        raise InvalidTenant([f"{problem.field}: {problem.message}" for problem in error.problems]) from error


def _too_much(tenant: Tenant, catalog: Catalog, error: CapacityExceeded) -> DoesNotFit:
    topology = expand(tenant, catalog)
    used = use(topology)
    (problem,) = error.problems
    return DoesNotFit(
        f"tenant {tenant.id!r} {problem.message}",
        remove=to_remove(used, topology.limits),
        plan=smallest_plan(used, catalog),
    )
