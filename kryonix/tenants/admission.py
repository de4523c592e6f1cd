"""Admission of a tenant: known modules and plan, and room in the plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from kryonix.registry.desired_states import DesiredState
from kryonix.tenants.errors import DoesNotFit, InvalidTenant
from kryonix.topology.capacity import expand_within_plans, smallest_plan, to_remove, use
from kryonix.topology.catalog import Catalog
from kryonix.topology.errors import CapacityExceeded, InvalidInput
from kryonix.topology.expansion import Topology, expand
from kryonix.topology.tenants import Tenant, parse_tenant


def admit(tenant: Tenant, catalog: Catalog, *, named: bool = True) -> Topology:
    """Return the topology of a tenant. Raises InvalidTenant or DoesNotFit, with the tenant's id if it is `named`."""
    refuse_unknown(tenant, catalog)
    try:
        (topology,) = expand_within_plans([tenant], catalog, "tenant")
    except CapacityExceeded as error:
        topology = expand(tenant, catalog)
        used = use(topology)
        raise DoesNotFit(
            f"{f'tenant {tenant.id!r}' if named else 'this'} {error.problems[0].message}",
            remove=to_remove(used, topology.limits),
            plan=smallest_plan(used, catalog),
        ) from error
    return topology


def admit_change(
    state: DesiredState, modules: Sequence[str] | None, plan: str | None, catalog: Catalog
) -> tuple[DesiredState, Topology]:
    """Return the row with other modules or another plan (None keeps them), and its topology.

    Raises InvalidTenant or DoesNotFit.
    """
    wanted = replace(
        state,
        modules=state.modules if modules is None else tuple(modules),
        plan=state.plan if plan is None else plan,
    )
    if not wanted.modules:
        raise InvalidTenant(["modules: at least one is required, none was received"])
    fields = {"id": wanted.cliente_id, "modules": list(wanted.modules), "plan": wanted.plan, "cell": wanted.cell}
    with invalid_tenant():
        tenant = parse_tenant(fields, "tenant", catalog)
    return wanted, admit(tenant, catalog)


def as_sold(tenant: Tenant, catalog: Catalog) -> Topology:
    """Return the topology of a tenant to suspend or remove. Raises InvalidTenant.

    Its plan's limits do not apply: the catalog may have shrunk since the sale.
    """
    refuse_unknown(tenant, catalog)
    return expand(tenant, catalog)


def refuse_unknown(tenant: Tenant, catalog: Catalog) -> None:
    """Raise InvalidTenant if the catalog lacks the tenant's plan or one of its modules."""
    with invalid_tenant():
        parse_tenant({**tenant.model_dump(exclude={"notify"}), "modules": list(tenant.modules)}, "tenant", catalog)


@contextmanager
def invalid_tenant() -> Iterator[None]:
    """Raise InvalidTenant for the block's InvalidInput."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidTenant([f"{problem.field}: {problem.message}" for problem in error.problems]) from error
