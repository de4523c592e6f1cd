"""What becomes of a customer: created, changed, suspended, resumed, given new credentials, offboarded, removed.

Each operation writes first what the tenant is to be, then brings the world there. So one that was cut off at any
point, `kill -9` included, is finished by running it again, or by `converge`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from kryonix.engines.engine import Engine, ignore
from kryonix.engines.errors import InvalidTenant, Overtaken, TenantBusy, UnknownTenant, WrongState
from kryonix.engines.events import OnEvent, Summary
from kryonix.errors import KryonixError
from kryonix.registry.connection import Connection, connect
from kryonix.registry.desired_states import (
    DesiredState,
    FinalExport,
    clock,
    fetch_desired_state,
    fetch_desired_states,
    fetch_due,
    fetch_final_exports,
    mark_applied,
    put_desired_state,
    put_final_export,
)
from kryonix.registry.errors import RegistryError
from kryonix.registry.rows import retire_tenant
from kryonix.registry.tenant_lock import held
from kryonix.tenants.admission import Need, admit, asked
from kryonix.tenants.credentials import Credentials
from kryonix.tenants.losses import translate_loss_errors
from kryonix.tenants.rows import claim, kept_rows, rotated
from kryonix.tenants.specs import tenant_of
from kryonix.tenants.stacks import TenantStacks
from kryonix.tenants.transitions import Transition, check_transition
from kryonix.tenants.undeclared import Undeclared
from kryonix.topology.capacity import use
from kryonix.topology.catalog import Catalog
from kryonix.topology.cells import Cells
from kryonix.topology.errors import InvalidInput
from kryonix.topology.expansion import expand
from kryonix.topology.naming import TENANT_ID
from kryonix.topology.tenants import Tenant

__all__ = ["Credentials", "Need", "TenantLifecycle"]

_OVERTAKEN_S: Final = 300
"""How long a run that was overtaken waits for its turn to put right what it may have done."""


class TenantLifecycle:
    """The operations on tenants that have a stack of their own.

    All of them block, may run from any thread, and are safe to run again. Refusals are raised before anything changes,
    as errors of `kryonix.engines.errors`; TenantBusy where another operation on the same tenant is under way, in any
    process. What fails later carries its `exit_status`: 3 for a service that may be back soon.
    """

    def __init__(
        self,
        registry_dsn: str,
        engine: Engine,
        cells: Cells,
        catalog: Catalog,
        *,
        overlap: timedelta = timedelta(hours=24),
        grace: timedelta = timedelta(days=30),
        deletion_protection: bool = True,
    ) -> None:
        self._dsn = registry_dsn
        self._stacks = TenantStacks(engine, cells, catalog, deletion_protection=deletion_protection)
        self._cells = cells
        self._catalog = catalog
        self._overlap = overlap
        self._grace = grace

    # --- what there is, and what there would be

    def plan(self, tenant: Tenant) -> Need:
        """What a tenant would take; asks nobody. Raises DoesNotFit or InvalidTenant."""
        topology = admit(tenant, self._catalog)
        return Need(use=use(topology), limits=topology.limits)

    def states(self) -> list[DesiredState]:
        """Every tenant's desired state, by id; those of removed ones too."""
        with connect(self._dsn) as connection:
            return fetch_desired_states(connection)

    def state(self, tenant_id: str) -> DesiredState:
        """One tenant's desired state. Raises UnknownTenant."""
        with self._row(tenant_id) as (_, state):
            return state

    def due(self) -> list[str]:
        """Ids of tenants that `settle` has something to do for: an overlap, or a grace, that has passed."""
        with connect(self._dsn) as connection:
            return [state.cliente_id for state in fetch_due(connection)]

    def final_exports(self, tenant_id: str) -> list[FinalExport]:
        """What was kept each time that a tenant was offboarded, the newest first. Raises UnknownTenant."""
        with self._row(tenant_id) as (connection, _):
            return fetch_final_exports(connection, tenant_id)

    def messages(self, tenant_id: str) -> dict[str, int]:
        """How many messages each queue holds that holds any, as of up to 5 s ago. Raises UnknownTenant."""
        return self._stacks.messages(self.state(tenant_id))

    def undeclared(self, tenant_id: str) -> Undeclared:
        """What is in a tenant's vhost that nobody declared. Asks the broker."""
        return self._stacks.undeclared(self.state(tenant_id))

    # --- operations

    def create(self, tenant: Tenant, on_event: OnEvent = ignore, *, again: bool = False) -> Credentials:
        """Make a new tenant and return its credentials.

        A creation that was cut off before it had finished is gone on with. One that had finished is TenantExists,
        unless `again` says that the caller asked before and lost the answer: then the same credentials are returned.
        """
        admit(tenant, self._catalog)
        try:
            self._cells.cell(tenant.cell)
        except InvalidInput as error:
            raise InvalidTenant([f"{problem.field}: {problem.message}" for problem in error.problems]) from error
        with self._alone(tenant.id):
            with connect(self._dsn) as connection:
                state = claim(connection, tenant, again)
            self._apply(state, on_event)
            return self._stacks.credentials(state)

    def change(
        self,
        tenant_id: str,
        *,
        modules: Sequence[str] | None = None,
        plan: str | None = None,
        allow_delete: Collection[str] = (),
        on_event: OnEvent = ignore,
    ) -> None:
        """Give a tenant other modules, another plan, or both; None leaves as it is.

        Raises DoesNotFit, and WouldLoseMessages for queues that hold messages and are not named in `allow_delete`.
        """
        if bad := [name for name in allow_delete if not name.isprintable()]:
            raise InvalidTenant([f"allow_delete: {bad[0]!r} is no name of a queue. Name those that may be deleted"])
        with self._alone(tenant_id):
            state = self._expect(tenant_id, "change")
            before = self._stacks.standing(state)
            wanted = replace(
                state,
                modules=state.modules if modules is None else tuple(modules),
                plan=state.plan if plan is None else plan,
            )
            topology = admit(asked(wanted, self._catalog), self._catalog)
            kept = {queue.name for queue in topology.queues}
            if any(queue.name not in kept for queue in expand(tenant_of(before), self._catalog).queues):
                self._stacks.before_deletion(before, wanted, allow_delete, on_event)
            written = self._put(wanted)
            try:
                with translate_loss_errors():
                    self._apply(written, on_event, allow_delete)
            except Exception as error:
                if isinstance(error, KryonixError) and error.exit_status == 2:  # nothing changed: restore the row too
                    self._put(before, over=written)
                raise

    def suspend(self, tenant_id: str, on_event: OnEvent = ignore) -> None:
        """Let no application of the tenant connect, and cut off those that are. Nothing is deleted."""
        with self._alone(tenant_id):
            state = self._expect(tenant_id, "suspend")
            self._apply(self._put(replace(state, status="suspended")), on_event)

    def resume(self, tenant_id: str, on_event: OnEvent = ignore) -> None:
        """Undo `suspend`, or `offboard` as long as the tenant has not been removed. Raises DoesNotFit."""
        with self._alone(tenant_id):
            state = self._expect(tenant_id, "resume")
            wanted = replace(state, status="active", remove_after=None)
            admit(tenant_of(wanted), self._catalog)
            self._apply(self._put(wanted), on_event)

    def rotate(
        self,
        tenant_id: str,
        on_event: OnEvent = ignore,
        *,
        from_generation: int | None = None,
        overlap: timedelta | None = None,
    ) -> Credentials:
        """Make a new user and return its credentials; the one before keeps working for the overlap.

        A rotation that was cut off before it had finished is gone on with. `from_generation` makes a retry safe after
        that too: where the tenant's credentials are of the next generation already, they are returned as they are.
        An overlap of nothing drops the old user in the same run. A rotation while the one before overlaps still ends
        that one's overlap at once.
        """
        with self._alone(tenant_id):
            before = self._expect(tenant_id, "rotate")
            if before.status == "active" and not self._stacks.keeps(before):
                admit(tenant_of(before), self._catalog)
            state = before
            if not rotated(before, from_generation):
                state = self._put(self._next_generation(before, self._overlap if overlap is None else overlap))
            try:
                self._apply(state, on_event)
                return self._stacks.credentials(state)
            except Exception:
                # Nobody has the new credentials, so the end of the overlap must not take away the old ones.
                with suppress(RegistryError, Overtaken):
                    self._put(before, over=state)
                raise

    def offboard(self, tenant_id: str, on_event: OnEvent = ignore) -> datetime:
        """Keep a final export, suspend, and return the moment from which `remove` may run. `resume` undoes it."""
        with self._alone(tenant_id):
            state = self._expect(tenant_id, "offboard")
            if state.status != "offboarding":
                definitions = self._stacks.definitions(state)
                with connect(self._dsn) as connection:
                    put_final_export(connection, tenant_id, definitions, kept_rows(connection, state))
                    leaving = replace(state, status="offboarding", remove_after=clock(connection) + self._grace)
                    state = put_desired_state(connection, leaving)
            self._apply(state, on_event)
            if state.remove_after is None:
                raise WrongState(tenant_id, state.status, f"the tenant {tenant_id!r} has no date of removal")
            return state.remove_after

    def remove(self, tenant_id: str, on_event: OnEvent = ignore, *, force: bool = False) -> None:
        """Remove an offboarded tenant once its grace has passed, or at once with `force`. Its history stays."""
        with self._alone(tenant_id):
            state = self._expect(tenant_id, "remove")
            if state.status == "offboarding" and not force and not self._passed(state.remove_after):
                raise WrongState(
                    tenant_id,
                    state.status,
                    f"the tenant {tenant_id!r} may come back until {state.remove_after:%Y-%m-%d %H:%M %Z}. "
                    f"Wait until then, or remove it now, for good, with `kryonix tenant remove {tenant_id} --force`",
                )
            self._remove(state, on_event)

    def settle(self, tenant_id: str, on_event: OnEvent = ignore) -> None:
        """Do what is due: drop a retired user, remove an offboarded tenant. Nothing where nothing is."""
        with self._alone(tenant_id):
            state = self.state(tenant_id)
            if state.status == "removed" or (state.status == "offboarding" and self._passed(state.remove_after)):
                self._remove(state, on_event)
            elif state.retiring_generation is not None and self._passed(state.retiring_until):
                # The row comes last here: it stays due until the old user is gone, however often that fails.
                settled = replace(state, retiring_generation=None, retiring_until=None)
                self._stacks.apply(settled, on_event)
                self._mark(self._put(settled, over=state))

    def converge(self, tenant_id: str, on_event: OnEvent = ignore) -> Summary:
        """Bring the world to the tenant's row as it is, whatever was changed by hand in between.

        What there really is is read first. Bindings, policies and permissions that nobody declared are removed.
        """
        with self._alone(tenant_id):
            state = self.state(tenant_id)
            if state.status == "removed":
                return self._remove(state, on_event)
            with translate_loss_errors():
                summary = self._stacks.mend(state, on_event)
            self._mark(state)
            return summary

    # --- the row

    @contextmanager
    def _alone(self, tenant_id: str) -> Iterator[None]:
        if not re.fullmatch(TENANT_ID, tenant_id):
            raise UnknownTenant(tenant_id)
        try:
            with held(self._dsn, tenant_id) as alone:
                if not alone:
                    raise TenantBusy(tenant_id)
                yield
        except Overtaken:
            self._converge_when_free(tenant_id)
            raise

    def _converge_when_free(self, tenant_id: str) -> None:
        """What overtook a run may have ended before that run did its work, and would then be undone by it."""
        until = time.monotonic() + _OVERTAKEN_S
        while True:
            try:
                self.converge(tenant_id)
                return
            except TenantBusy:
                if time.monotonic() > until:
                    raise
                time.sleep(1)

    @contextmanager
    def _row(self, tenant_id: str) -> Iterator[tuple[Connection, DesiredState]]:
        if not re.fullmatch(TENANT_ID, tenant_id):
            raise UnknownTenant(tenant_id)
        with connect(self._dsn) as connection:
            state = fetch_desired_state(connection, tenant_id)
            if state is None:
                raise UnknownTenant(tenant_id)
            yield connection, state

    def _expect(self, tenant_id: str, operation: Transition) -> DesiredState:
        """Return the tenant's row. Raises WrongState if its state does not allow the operation."""
        state = self.state(tenant_id)
        check_transition(state, operation)
        return state

    def _put(self, state: DesiredState, *, over: DesiredState | None = None) -> DesiredState:
        """Write the row. Raises Overtaken where it is not `over` any more."""
        with connect(self._dsn) as connection:
            if over is not None:
                found = fetch_desired_state(connection, state.cliente_id, lock=True)
                if found is None or found.updated_at != over.updated_at:
                    raise Overtaken(state.cliente_id)
            return put_desired_state(connection, state)

    def _mark(self, state: DesiredState) -> None:
        """Write that the world is as the row says. Raises Overtaken where the row is another by now."""
        with connect(self._dsn) as connection:
            marked = mark_applied(connection, state)
        if not marked:
            raise Overtaken(state.cliente_id)

    def _passed(self, moment: datetime | None) -> bool:
        with connect(self._dsn) as connection:
            return moment is not None and moment <= clock(connection)

    def _next_generation(self, state: DesiredState, overlap: timedelta) -> DesiredState:
        current = state.credentials_generation
        fresh = replace(state, credentials_generation=current + 1, retiring_generation=None, retiring_until=None)
        if overlap <= timedelta(0):
            return fresh
        with connect(self._dsn) as connection:
            return replace(fresh, retiring_generation=current, retiring_until=clock(connection) + overlap)

    # --- the world

    def _apply(self, state: DesiredState, on_event: OnEvent, allow_delete: Collection[str] = ()) -> Summary:
        summary = self._stacks.apply(state, on_event, allow_delete)
        self._mark(state)
        return summary

    def _remove(self, state: DesiredState, on_event: OnEvent) -> Summary:
        """Lift what protects the tenant; then write that it is to go, remove it, and write that it is gone."""
        if state.status == "removed" and not state.removing:
            return Summary({}, ())
        if state.status != "removed":
            self._stacks.release(state, on_event)
            state = self._put(replace(state, status="removed"), over=state)
        summary = self._stacks.destroy(state, on_event)
        with connect(self._dsn) as connection:
            retire_tenant(connection, state.cliente_id)
            gone = replace(state, remove_after=None, retiring_generation=None, retiring_until=None)
            mark_applied(connection, put_desired_state(connection, gone))
        return summary
