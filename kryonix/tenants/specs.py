"""A tenant's row as a tenant, its users, and its stack with the whole config."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from kryonix.engines.engine import Engine, StackSpec
from kryonix.registry.desired_states import DesiredState
from kryonix.topology.capacity import use
from kryonix.topology.catalog import Catalog
from kryonix.topology.cells import Cells
from kryonix.topology.expansion import expand
from kryonix.topology.naming import Names
from kryonix.topology.tenants import Tenant


def tenant_of(state: DesiredState) -> Tenant:
    """Return the tenant of a row. For the broker, an offboarding or removed tenant is suspended."""
    status: Literal["active", "suspended"] = "active" if state.status == "active" else "suspended"
    return Tenant(
        id=state.cliente_id,
        modules=state.modules,
        plan=state.plan,
        status=status,
        cell=state.cell,
        auth=state.auth,
    )


def users_of(state: DesiredState) -> list[str]:
    """Return the names of the tenant's users: two per generation, of the current and of the retiring one."""
    names = Names(state.cliente_id)
    generations = [g for g in (state.credentials_generation, state.retiring_generation) if g is not None]
    return [of(generation) for generation in generations for of in (names.user_of, names.stats_user_of)]


def spec_for(
    state: DesiredState,
    cells: Cells,
    *,
    deletion_protection: bool = True,
    allow_delete: Collection[str] = (),
    protect: bool | None = None,
    sold: Mapping[str, Any] | None = None,
) -> StackSpec:
    """Return a tenant's stack. `protect` defaults to the cell's, `sold` is the result of `what_is_sold`.

    Raises InvalidInput for an unknown cell.
    """
    cell, tenant = cells.cell(state.cell), tenant_of(state)
    config: dict[str, Any] = {
        "kryonix:platform": cell.platform,
        "kryonix:tenant": _declared(tenant),
        "kryonix:deletionProtection": deletion_protection,
        "kryonix:protect": cell.protect if protect is None else protect,
    }
    if cell.registry:
        config["kryonix:registry"] = cell.registry
    if state.credentials_generation > 1:
        retiring = {} if state.retiring_generation is None else {"retiring": state.retiring_generation}
        config["kryonix:credentials"] = {"generation": state.credentials_generation, **retiring}
    if allow_delete:
        config["kryonix:allowDelete"] = sorted(allow_delete)
    if sold:
        config["kryonix:sold"] = list(sold["modules"])
    return StackSpec(name=tenant.names.stack, config=config)


def _declared(tenant: Tenant) -> dict[str, Any]:
    """Return a tenant as its stack's config has it.

    Where its alerts go stays in the registry: a webhook may hold a token, and backends keep config as it is. The usual
    way to log in is left out, so no tenant's config has changed since there are two.
    """
    left_out = {"notify"} | ({"auth"} if tenant.auth == "password" else set())
    return {**tenant.model_dump(exclude=left_out), "modules": list(tenant.modules)}


def what_is_sold(state: DesiredState, engine: Engine, catalog: Catalog) -> Mapping[str, Any] | None:
    """Return the stack's own entry if the tenant is active and exceeds its plan by now; else None.

    The program keeps such a tenant as it is, so rotation and repair still work, but refuses growth.
    """
    tenant = tenant_of(state)
    known = tenant.plan in catalog.plans and all(module in catalog.modules for module in tenant.modules)
    if tenant.status != "active" or not known:
        return None
    topology = expand(tenant, catalog)
    if use(topology).fits(topology.limits):
        return None
    return deployed(engine, tenant.id)


def deployed(engine: Engine, tenant_id: str) -> Mapping[str, Any] | None:
    """Return the tenant's entry in the outputs of its own stack, None if nothing is deployed."""
    made: Mapping[str, Any] = engine.outputs(StackSpec(name=Names(tenant_id).stack)).get("tenants", {})
    return made.get(tenant_id)


def vhost_of(state: DesiredState) -> str:
    """Return the tenant's vhost."""
    return Names(state.cliente_id).vhost
