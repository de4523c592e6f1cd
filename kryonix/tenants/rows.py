"""A tenant's row read: who may take it, whether it was rotated already, whom it lets in, what is kept of it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from kryonix.engines.errors import TenantExists, WrongState
from kryonix.registry.connection import Connection
from kryonix.registry.desired_states import DesiredState, fetch_desired_state, put_desired_state
from kryonix.registry.rows import fetch_tenants
from kryonix.tenants.specs import tenant_of
from kryonix.topology.tenants import Tenant

__all__ = ["claim", "kept_rows", "rotated", "users_of"]


def claim(connection: Connection, tenant: Tenant, again: bool) -> DesiredState:
    """The row of a new tenant, or of one whose creation is gone on with. Raises TenantExists."""
    wanted = DesiredState(
        cliente_id=tenant.id, modules=tenant.modules, plan=tenant.plan, status=tenant.status, cell=tenant.cell
    )
    found = fetch_desired_state(connection, tenant.id, lock=True)
    if found is not None and found.removing:
        raise WrongState(tenant.id, "removed", f"the removal of the tenant {tenant.id!r} is not over. Run it again")
    if found is None or found.status == "removed":
        if any(row.status != "removido" for row in fetch_tenants(connection, tenant.id)):
            remedy = "Choose another id, or change the tenant where it is listed"
            raise TenantExists(
                tenant.id, f"the tenant {tenant.id!r} is in the registry, made by another stack. {remedy}"
            )
        return put_desired_state(connection, wanted)
    if (again or found.applied_generation == 0) and _same(found, wanted):
        return found
    raise TenantExists(tenant.id, f"the tenant {tenant.id!r} is there already. Change it, or choose another id")


def _same(found: DesiredState, wanted: DesiredState) -> bool:
    return (found.modules, found.plan, found.cell, found.status) == (
        wanted.modules,
        wanted.plan,
        wanted.cell,
        wanted.status,
    )


def rotated(state: DesiredState, from_generation: int | None) -> bool:
    """Whether the new generation is in the row already. Raises WrongState where it is not what the caller knows."""
    current = state.credentials_generation
    if from_generation is None:
        return current > state.applied_generation > 0
    if current not in (from_generation, from_generation + 1):
        message = f"the credentials of {state.cliente_id!r} are of generation {current}, not {from_generation}"
        raise WrongState(state.cliente_id, state.status, f"{message}. Look at the tenant again")
    return current == from_generation + 1


def users_of(state: DesiredState) -> list[str]:
    """The names of the users that a tenant has: the two of its generation, and of one whose overlap is not over."""
    names = tenant_of(state).names
    generations = [g for g in (state.credentials_generation, state.retiring_generation) if g is not None]
    return [of(generation) for generation in generations for of in (names.user_of, names.stats_user_of)]


def kept_rows(connection: Connection, state: DesiredState) -> dict[str, Any]:
    """A tenant's rows as they are kept; its hash is not."""
    desired = {key: value for key, value in asdict(state).items() if not isinstance(value, datetime)}
    found = fetch_tenants(connection, state.cliente_id)
    configuration = {key: value for key, value in asdict(found[0]).items() if key != "password_hash"} if found else {}
    return {"desired_state": desired, "configuration": configuration}
