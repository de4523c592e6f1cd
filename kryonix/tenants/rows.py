"""Tenants' rows in the registry: lock, read, write."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from kryonix.registry.connection import Connection, connect, tenant_lock
from kryonix.registry.desired_states import (
    DesiredState,
    DesiredStatus,
    clock,
    fetch_desired_state,
    forget_applied,
    mark_applied,
    mark_unapplied,
    put_desired_state,
    put_final_export,
)
from kryonix.registry.errors import translated
from kryonix.registry.rows import STATUS_NAMES, TenantRow, fetch_tenants, retire_tenant
from kryonix.tenants.errors import Overtaken, TenantBusy, UnknownTenant
from kryonix.tenants.transitions import tenant_exists, unfinished_creation
from kryonix.topology.naming import TENANT_ID
from kryonix.topology.notify import Notify
from kryonix.topology.tenants import Tenant


class TenantRows:
    """The rows of tenants with a stack of their own."""

    def __init__(self, registry_dsn: str) -> None:
        self._dsn = registry_dsn

    @contextmanager
    def lock(self, tenant_id: str) -> Iterator[str | None]:
        """Lock the tenant for the block. Raises TenantBusy if another operation holds it, in any process.

        Who holds it may change the stack, and be killed half-way: from here on, what it was applied from is unknown.
        Yields the digest that was known until now.
        """
        _check_id(tenant_id)
        with tenant_lock(self._dsn, tenant_id) as session:
            if session is None:
                raise TenantBusy(tenant_id)
            with translated(self._dsn):
                applied = forget_applied(session, tenant_id)
            yield applied

    @contextmanager
    def open(self, tenant_id: str) -> Iterator[tuple[Connection, DesiredState]]:
        """Return a connection for the block, and the tenant's row. Raises UnknownTenant."""
        _check_id(tenant_id)
        with connect(self._dsn) as connection:
            state = fetch_desired_state(connection, tenant_id)
            if state is None:
                raise UnknownTenant(tenant_id)
            yield connection, state

    def claim(self, tenant: Tenant, *, again: bool) -> DesiredState:
        """Return the row of a new tenant, or of a creation to continue; with `again`, of a finished one too.

        Raises TenantExists, and WrongState for a tenant being removed.
        """
        wanted = DesiredState(
            cliente_id=tenant.id,
            modules=tenant.modules,
            plan=tenant.plan,
            status=tenant.status,
            cell=tenant.cell,
            auth=tenant.auth,
            notify=tenant.notify,
        )
        with connect(self._dsn) as connection:
            found = fetch_desired_state(connection, tenant.id, lock=True)
            if found is not None and found.status != "removed":
                if not again:
                    unfinished_creation(tenant.id, found, registered=True)
                fields = ("modules", "plan", "cell", "status", "auth", "notify")
                if any(getattr(found, name) != getattr(wanted, name) for name in fields):
                    raise tenant_exists(tenant.id)
                return found
            registered = any(row.status != "removido" for row in fetch_tenants(connection, tenant.id))
            unfinished_creation(tenant.id, found, registered=registered)
            return put_desired_state(connection, wanted)

    def live(self, tenant_id: str) -> DesiredState | None:
        """Return the row of a tenant that is not removed. Raises WrongState while it is being removed."""
        with connect(self._dsn) as connection:
            found = fetch_desired_state(connection, tenant_id)
        if found is not None and found.removing:
            unfinished_creation(tenant_id, found, registered=True)
        return None if found is None or found.status == "removed" else found

    def configuration(self, tenant_id: str) -> TenantRow | None:
        """Return the registry's row of a tenant's configuration, with the hash of its password; None without one."""
        with connect(self._dsn) as connection:
            return next(iter(fetch_tenants(connection, tenant_id)), None)

    def registered(self, tenant_id: str) -> tuple[DesiredStatus | None, Notify | None]:
        """Return the status of a tenant's configuration in the registry, whatever manages it, and its `notify`."""
        with connect(self._dsn) as connection:
            found = fetch_tenants(connection, tenant_id)
        names = {status: name for name, status in STATUS_NAMES.items()}
        return (names.get(found[0].status), Notify.stored(found[0].notify)) if found else (None, None)

    def adopt(self, state: DesiredState) -> None:
        """Write the row of a tenant whose stack matches it already, in one transaction."""
        with connect(self._dsn) as connection:
            mark_applied(connection, put_desired_state(connection, state))

    def put(self, state: DesiredState, *, over: DesiredState | None = None) -> DesiredState:
        """Write the row. Raises Overtaken if it is not `over` any more."""
        with connect(self._dsn) as connection:
            if over is not None:
                _expect_unchanged(connection, over)
            return put_desired_state(connection, state)

    def mark_applied(
        self, state: DesiredState, digest_of: Callable[[TenantRow | None], str | None] = lambda row: None
    ) -> None:
        """Record that the stack matches the row. Raises Overtaken if the row has changed since.

        `digest_of` returns the digest of what it was applied from, given the row of the configuration that the run has
        left; None if it is not known.
        """
        with connect(self._dsn) as connection:
            row = next(iter(fetch_tenants(connection, state.cliente_id)), None)
            marked = mark_applied(connection, state, digest_of(row))
        if not marked:
            raise Overtaken(state.cliente_id)

    def mark_unapplied(self, state: DesiredState) -> None:
        """Record that the stack differs from the row."""
        with connect(self._dsn) as connection:
            mark_unapplied(connection, state.cliente_id)

    def passed(self, moment: datetime | None) -> bool:
        """Return True if the moment has passed by the database's clock."""
        with connect(self._dsn) as connection:
            return moment is not None and moment <= clock(connection)

    def after(self, duration: timedelta) -> datetime:
        """Return the database's time plus a duration."""
        with connect(self._dsn) as connection:
            return clock(connection) + duration

    def leave(
        self,
        state: DesiredState,
        status: Literal["offboarding", "removed"],
        definitions: dict[str, Any],
        grace: timedelta,
    ) -> DesiredState:
        """Store the final export and set the row's status, in one transaction. Hash and webhook are not exported.

        Raises Overtaken if the row is not `state` any more.
        """
        left_out = (datetime, Notify)
        desired = {key: value for key, value in asdict(state).items() if not isinstance(value, left_out)}
        with connect(self._dsn) as connection:
            _expect_unchanged(connection, state)
            found = fetch_tenants(connection, state.cliente_id)
            row = asdict(found[0]) if found else {}
            for name in ("password_hash", "notify"):
                row.pop(name, None)
            put_final_export(
                connection, state.cliente_id, definitions, {"desired_state": desired, "configuration": row}
            )
            leaving = replace(state, status=status, remove_after=clock(connection) + grace)
            return put_desired_state(connection, leaving)

    def retire(self, state: DesiredState) -> None:
        """Record that the tenant is removed."""
        gone = replace(state, remove_after=None, retiring_generation=None, retiring_until=None, notify=None)
        with connect(self._dsn) as connection:
            retire_tenant(connection, state.cliente_id)
            mark_applied(connection, put_desired_state(connection, gone))


def _expect_unchanged(connection: Connection, state: DesiredState) -> None:
    found = fetch_desired_state(connection, state.cliente_id, lock=True)
    if found is None or found.updated_at != state.updated_at:
        raise Overtaken(state.cliente_id)


def _check_id(tenant_id: str) -> None:
    if not re.fullmatch(TENANT_ID, tenant_id):
        raise UnknownTenant(tenant_id)
