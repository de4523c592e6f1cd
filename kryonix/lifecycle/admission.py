"""Whether a tenant can be what is asked: known modules and plan, an id that can be used, and room in the plan."""

from __future__ import annotations

from dataclasses import dataclass

from kryonix.lifecycle.errors import DoesNotFit, InvalidTenant
from kryonix.topology.capacity import Use, expand_within_plans, smallest_plan, use
from kryonix.topology.catalog import Catalog, Limits
from kryonix.topology.errors import CapacityExceeded, InvalidInput
from kryonix.topology.expansion import Topology, expand
from kryonix.topology.tenants import Tenant, parse_tenant

__all__ = ["Need", "admit", "to_remove"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a tenant would take, beside what its plan allows."""

    use: Use
    limits: Limits


def admit(tenant: Tenant, catalog: Catalog) -> Topology:
    """The topology of a tenant that can be. Raises InvalidTenant or DoesNotFit."""
    try:
        parse_tenant({**tenant.model_dump(), "modules": list(tenant.modules)}, "tenant", catalog)
    except InvalidInput as error:
        raise InvalidTenant([f"{problem.field}: {problem.message}" for problem in error.problems]) from error
    try:
        (topology,) = expand_within_plans([tenant], catalog, "tenant")
    except CapacityExceeded as error:
        raise _too_much(tenant, catalog, error) from error
    return topology


def _too_much(tenant: Tenant, catalog: Catalog, error: CapacityExceeded) -> DoesNotFit:
    topology = expand(tenant, catalog)
    used = use(topology)
    remove = to_remove(used, topology.limits)
    (problem,) = error.problems
    named = f": for the plan {tenant.plan!r}, {', '.join(remove)}" if remove else ""
    return DoesNotFit(
        f"tenant {tenant.id!r} {problem.message}{named}", remove=remove, plan=smallest_plan(used, catalog)
    )


def to_remove(used: Use, limits: Limits) -> tuple[str, ...]:
    """As few modules as possible whose removal makes the rest fit, and of the last the smallest that does.

    Empty where nothing fits, as a tenant has one module at least.
    """
    queues, exchanges = used.queues - limits.max_queues, used.exchanges - limits.max_exchanges
    largest = sorted(used.queues_by_module.items(), key=lambda entry: (-entry[1], entry[0]))
    removed: list[str] = []
    while queues > 0 or exchanges > 0:
        enough = [(size, name) for name, size in largest if size >= queues and exchanges <= 1]
        name = min(enough)[1] if enough else largest[0][0] if largest else ""
        size = dict(largest).get(name, 0)
        largest = [entry for entry in largest if entry[0] != name]
        if not largest:
            return ()
        removed.append(name)
        queues, exchanges = queues - size, exchanges - 1
    return tuple(removed)
