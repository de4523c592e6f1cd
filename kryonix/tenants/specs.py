"""From a tenant's desired state to the stack that it is, with the whole of its config."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from kryonix.engines.engine import Engine, StackSpec
from kryonix.registry.desired_states import DesiredState
from kryonix.topology.capacity import use
from kryonix.topology.catalog import Catalog
from kryonix.topology.cells import Cells
from kryonix.topology.expansion import expand
from kryonix.topology.tenants import Tenant

__all__ = ["spec_for", "tenant_of", "what_is_sold"]


def tenant_of(state: DesiredState) -> Tenant:
    """The tenant that a desired state asks for. One that leaves, or has left, is a suspended one to the broker."""
    status: Literal["active", "suspended"] = "active" if state.status == "active" else "suspended"
    return Tenant(id=state.cliente_id, modules=state.modules, plan=state.plan, status=status, cell=state.cell)


def spec_for(
    state: DesiredState,
    cells: Cells,
    *,
    deletion_protection: bool = True,
    allow_delete: Collection[str] = (),
    protect: bool | None = None,
    sold: Mapping[str, Any] | None = None,
) -> StackSpec:
    """A tenant's stack. `protect` is the cell's unless it is said here, `sold` what `what_is_sold` returns.

    Raises InvalidInput for a cell that there is not, and for a tenant that can't be.
    """
    cell, tenant = cells.cell(state.cell), tenant_of(state)
    config: dict[str, Any] = {
        "kryonix:platform": cell.platform,
        "kryonix:tenant": {**tenant.model_dump(), "modules": list(tenant.modules)},
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


def what_is_sold(state: DesiredState, engine: Engine, catalog: Catalog) -> Mapping[str, Any] | None:
    """Return what a tenant's stack has now, where the tenant is active and its plan no longer admits it.

    The program lets it keep that, so that credentials end and what was changed by hand is mended; it does not let it
    grow.
    """
    tenant = tenant_of(state)
    known = tenant.plan in catalog.plans and all(module in catalog.modules for module in tenant.modules)
    if tenant.status != "active" or not known:
        return None
    topology = expand(tenant, catalog)
    if use(topology).fits(topology.limits):
        return None
    made: Mapping[str, Any] = engine.outputs(StackSpec(name=tenant.names.stack)).get("tenants", {})
    return made.get(tenant.id)
