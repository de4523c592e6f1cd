"""Operations on tenants: create, change, suspend, resume, rotate, offboard, remove.

Each operation first writes the desired state, then applies it. After an interruption at any point, `kill -9`
included, run the operation again, or `converge`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, Literal

from kryonix.engines.engine import Engine, ignore
from kryonix.engines.events import OnEvent, Op, Step, Summary, count_changes
from kryonix.errors import KryonixError
from kryonix.registry.connection import connect
from kryonix.registry.desired_states import (
    DesiredState,
    FinalExport,
    fetch_desired_states,
    fetch_due,
    fetch_final_exports,
)
from kryonix.registry.errors import RegistryError
from kryonix.registry.rows import TenantRow
from kryonix.tenants.admission import admit, admit_change, invalid_tenant
from kryonix.tenants.credentials import Credentials
from kryonix.tenants.digests import Digests
from kryonix.tenants.errors import (
    InvalidTenant,
    Overtaken,
    StateElsewhere,
    TenantBusy,
    UnknownTenant,
    WouldLoseMessages,
    WrongState,
    translate_loss_errors,
)
from kryonix.tenants.rows import TenantRows
from kryonix.tenants.specs import tenant_of
from kryonix.tenants.stacks import TenantStacks
from kryonix.tenants.transitions import Transition, check_transition, is_rotated
from kryonix.tenants.undeclared import Undeclared
from kryonix.topology.catalog import Catalog
from kryonix.topology.cells import Cells
from kryonix.topology.expansion import Topology, expand
from kryonix.topology.notify import Notify
from kryonix.topology.tenants import Tenant

_COUNTS_AGE_S: Final = 8
"""Maximum age of the broker's message counts, with a margin: a quorum queue reports every 5 s."""

_OVERTAKEN_S: Final = 300
"""Maximum wait of an overtaken run for its turn to converge."""


class TenantLifecycle:
    """Operations on tenants with a stack of their own.

    All of them block, are thread-safe, and can be repeated. Refusals are raised before any change, as errors of
    `kryonix.engines.errors`: TenantBusy during another operation on the same tenant, in any process. Later failures
    carry an `exit_status`: 3 for a temporary one.
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
        service_worker: str = "",
    ) -> None:
        """`service_worker` is the container of the signup service's worker, which keeps its tenants' state there."""
        self._dsn = registry_dsn
        self._rows = TenantRows(registry_dsn)
        self._stacks = TenantStacks(engine, cells, catalog, deletion_protection=deletion_protection)
        self._digests = Digests(engine, cells, catalog, deletion_protection=deletion_protection)
        self._service_worker = service_worker
        self._cells = cells
        self._catalog = catalog
        self._overlap = overlap
        self._grace = grace

    def states(self) -> list[DesiredState]:
        """Return all desired states ordered by id, removed tenants included."""
        with connect(self._dsn) as connection:
            return fetch_desired_states(connection)

    def state(self, tenant_id: str) -> DesiredState:
        """Return one tenant's desired state. Raises UnknownTenant."""
        with self._rows.open(tenant_id) as (_, state):
            return state

    def due(self) -> list[str]:
        """Return ids of tenants to `settle`: their overlap or grace period has ended."""
        with connect(self._dsn) as connection:
            return [state.cliente_id for state in fetch_due(connection)]

    def final_exports(self, tenant_id: str) -> list[FinalExport]:
        """Return the exports of a tenant's offboardings, newest first. Raises UnknownTenant."""
        with self._rows.open(tenant_id) as (connection, _):
            return fetch_final_exports(connection, tenant_id)

    def messages(self, tenant_id: str) -> dict[str, int]:
        """Return the message counts of non-empty queues, up to 5 s old. Raises UnknownTenant."""
        return self._stacks.messages(self.state(tenant_id))

    def undeclared(self, tenant_id: str) -> Undeclared:
        """Return the undeclared objects in a tenant's vhost, as the broker lists them."""
        return self._stacks.undeclared(self.state(tenant_id))

    def create(self, tenant: Tenant, on_event: OnEvent = ignore, *, again: bool = False) -> Credentials:
        """Create a tenant and return its credentials; continue an interrupted creation.

        Raises InvalidTenant, DoesNotFit, and TenantExists after a finished creation. With `again`, returns its
        credentials instead.
        """
        admit(tenant, self._catalog)
        with invalid_tenant():
            self._cells.cell(tenant.cell)
        self._stacks.refuse_login(tenant)
        with self._lock(tenant.id):
            state = self._rows.claim(tenant, again=again)
            self._apply(state, on_event)
            return self._stacks.credentials(state)

    def change(
        self,
        tenant_id: str,
        *,
        modules: Sequence[str] | None = None,
        plan: str | None = None,
        notify: Notify | Literal["keep"] | None = "keep",
        allow_delete: Collection[str] = (),
        on_event: OnEvent = ignore,
    ) -> None:
        """Change a tenant's modules, plan, or where its alerts go. None keeps modules and plan, and clears `notify`.

        A change of `notify` alone changes only its row. Raises DoesNotFit, and WouldLoseMessages for non-empty queues
        missing in `allow_delete`.
        """
        with self._lock(tenant_id):
            state = self._expect(tenant_id, "change")
            target = state.notify if notify == "keep" else notify
            if modules is None and plan is None:
                self._rows.put(replace(state, notify=target))
                return
            before = self._stacks.standing(state)
            wanted, topology = self._changed(replace(state, notify=target), modules, plan, allow_delete)
            kept = {queue.name for queue in topology.queues}
            if any(queue.name not in kept for queue in expand(tenant_of(before), self._catalog).queues):
                self._stacks.before_deletion(before, wanted, allow_delete, on_event)
            written = self._rows.put(wanted)
            try:
                with translate_loss_errors():
                    self._apply(written, on_event, allow_delete)
            except Exception as error:
                if isinstance(error, KryonixError) and error.exit_status == 2:  # nothing changed: restore the row too
                    self._rows.put(before, over=written)
                raise

    def preview_change(
        self,
        tenant_id: str,
        *,
        modules: Sequence[str] | None = None,
        plan: str | None = None,
        allow_delete: Collection[str] = (),
        on_event: OnEvent = ignore,
    ) -> tuple[Summary, WouldLoseMessages | None]:
        """Return what `change` would do, and its refusal if it would lose messages. Changes nothing.

        Raises DoesNotFit.
        """
        state = self._expect(tenant_id, "change")
        wanted, topology = self._changed(state, modules, plan, allow_delete)
        refusal: WouldLoseMessages | None = None
        accepted = set(allow_delete)
        while True:
            try:
                with translate_loss_errors():
                    summary = self._stacks.preview(wanted, accepted, on_event)
                before = tenant_of(self._stacks.standing(state))
                return summary or _difference(expand(before, self._catalog), topology), refusal
            except WouldLoseMessages as error:
                if accepted >= set(error.queues):
                    raise
                refusal = refusal or error
                accepted |= set(error.queues)

    def suspend(self, tenant_id: str, on_event: OnEvent = ignore) -> None:
        """Refuse the tenant's connections and close the open ones. Nothing is deleted."""
        with self._lock(tenant_id):
            state = self._expect(tenant_id, "suspend")
            self._apply(self._rows.put(replace(state, status="suspended")), on_event)

    def resume(self, tenant_id: str, on_event: OnEvent = ignore) -> None:
        """Undo `suspend`, or `offboard` before the removal. Raises DoesNotFit."""
        with self._lock(tenant_id):
            state = self._expect(tenant_id, "resume")
            wanted = replace(state, status="active", remove_after=None)
            admit(tenant_of(wanted), self._catalog)
            self._apply(self._rows.put(wanted), on_event)

    def rotate(
        self,
        tenant_id: str,
        on_event: OnEvent = ignore,
        *,
        from_generation: int | None = None,
        overlap: timedelta | None = None,
    ) -> Credentials:
        """Create a new user and return its credentials; the old user works until the overlap ends.

        An interrupted rotation continues. `from_generation` makes a retry after a finished one safe too: it returns the
        existing credentials of the next generation. An overlap of 0 drops the old user in the same run. A rotation
        during an overlap ends that overlap at once.
        """
        with self._lock(tenant_id):
            before = self._expect(tenant_id, "rotate")
            if before.status == "active" and not self._stacks.keeps(before):
                admit(tenant_of(before), self._catalog)
            state = before
            if not is_rotated(before, from_generation):
                current, overlap = before.credentials_generation, self._overlap if overlap is None else overlap
                kept = overlap > timedelta(0)
                state = self._rows.put(
                    replace(
                        before,
                        credentials_generation=current + 1,
                        retiring_generation=current if kept else None,
                        retiring_until=self._rows.after(overlap) if kept else None,
                    )
                )
            try:
                self._apply(state, on_event)
                return self._stacks.credentials(state)
            except Exception:
                # The new credentials were not delivered: the end of the overlap must keep the old ones.
                with suppress(RegistryError, Overtaken):
                    self._rows.put(before, over=state)
                raise

    def offboard(self, tenant_id: str, on_event: OnEvent = ignore) -> datetime:
        """Store a final export, suspend, and return the earliest time for `remove`. `resume` undoes it."""
        with self._lock(tenant_id):
            state = self._expect(tenant_id, "offboard")
            if state.status != "offboarding":
                state = self._rows.leave(state, "offboarding", self._stacks.definitions(state), self._grace)
            self._apply(state, on_event)
            if state.remove_after is None:
                raise WrongState(f"the tenant {tenant_id!r} has no date of removal. Offboard it again")
            return state.remove_after

    def remove(self, tenant_id: str, on_event: OnEvent = ignore, *, force: bool = False) -> None:
        """Remove an offboarded tenant after its grace period, or at once with `force`. Its history stays."""
        with self._lock(tenant_id):
            self._remove(self.removable(tenant_id, force=force), on_event)

    def removable(self, tenant_id: str, *, force: bool = False) -> DesiredState:
        """Return the row of a tenant that `remove` would remove. Raises WrongState."""
        state = self._expect(tenant_id, "remove")
        if state.status == "offboarding" and not force and not self._rows.passed(state.remove_after):
            raise WrongState(
                f"the tenant {tenant_id!r} can be resumed until {state.remove_after:%Y-%m-%d %H:%M %Z}. Wait until "
                f"then, or remove it now and for good (`kryonix tenant remove {tenant_id} --force`)"
            )
        return state

    def remove_now(self, tenant_id: str, on_event: OnEvent = ignore, *, accept_loss: bool = False) -> int:
        """Remove a tenant in any state, with a final export. Return the number of deleted messages.

        Raises WouldLoseMessages, and leaves the tenant as it was. It is suspended while its messages are counted, so
        that no new ones arrive; its row stays, so that a repetition after a crash, or `converge`, ends the suspension.
        """
        with self._lock(tenant_id):
            state, deleted = self.state(tenant_id), 0
            check_transition(state, "offboard", "remove")
            if state.status != "removed":
                try:
                    deleted = self._suspend_and_count(state, on_event, accept_loss=accept_loss)
                except Exception:
                    if not self.state(tenant_id).converged:
                        self._apply(state, on_event)
                    raise
            if state.status in ("active", "suspended"):
                state = self._rows.leave(state, "removed", self._stacks.definitions(state), self._grace)
            self._remove(state, on_event)
            return deleted

    def settle(self, tenant_id: str, on_event: OnEvent = ignore) -> None:
        """Drop the old user after the overlap; remove an offboarded tenant after its grace period."""
        with self._lock(tenant_id):
            state = self.state(tenant_id)
            if state.status == "removed" or (state.status == "offboarding" and self._rows.passed(state.remove_after)):
                self._remove(state, on_event)
            elif state.retiring_generation is not None and self._rows.passed(state.retiring_until):
                # Write the row last: the tenant stays due until the old user is gone.
                settled = replace(state, retiring_generation=None, retiring_until=None)
                source = self._source(settled)
                self._stacks.apply(settled, on_event)
                written = self._rows.put(settled, over=state)
                self._rows.mark_applied(written, self._digest(written, source))

    def converge(self, tenant_id: str, on_event: OnEvent = ignore, *, thorough: bool = True) -> Summary:
        """Apply the tenant's row, after reading the real resources, and undo changes made by hand.

        Undeclared bindings, policies and permissions are removed. If not `thorough`, that is left out for a stack that
        is as its last run has left it: such a run has succeeded, and no drift was found since.
        """
        with self._lock(tenant_id) as applied:
            state = self.state(tenant_id)
            if state.status == "removed":
                return self._remove(state, on_event)
            source, intact = self._source(state), not thorough and self._is_intact(state, applied)
            with translate_loss_errors():
                summary = (self._stacks.apply if intact else self._stacks.mend)(state, on_event)
            self._rows.mark_applied(state, self._digest(state, source))
            return summary

    @contextmanager
    def _lock(self, tenant_id: str) -> Iterator[str | None]:
        """Lock the tenant; yield the digest of what its stack was applied from, if it is known.

        An overtaken run may have undone newer work: converge once the tenant is free.
        """
        try:
            with self._rows.lock(tenant_id) as applied:
                self._expect_state_here(tenant_id)
                yield applied
        except Overtaken:
            until = time.monotonic() + _OVERTAKEN_S
            while True:
                try:
                    self.converge(tenant_id)
                    break
                except TenantBusy:
                    if time.monotonic() > until:
                        raise
                    time.sleep(1)
            raise

    def _expect_state_here(self, tenant_id: str) -> None:
        """Raise StateElsewhere for a tenant that the signup service's worker has made in its container."""
        if not self._service_worker:
            return
        with suppress(UnknownTenant):
            state = self.state(tenant_id)
            if state.status != "removed" and self._stacks.is_made_elsewhere(state):
                raise StateElsewhere(tenant_id, self._service_worker)

    def _expect(self, tenant_id: str, operation: Transition) -> DesiredState:
        """Return the tenant's row. Raises WrongState if its state does not allow the operation."""
        state = self.state(tenant_id)
        check_transition(state, operation)
        return state

    def _changed(
        self, state: DesiredState, modules: Sequence[str] | None, plan: str | None, allow_delete: Collection[str]
    ) -> tuple[DesiredState, Topology]:
        """Return the row with other modules or another plan, and its topology. Raises InvalidTenant, DoesNotFit."""
        if bad := [name for name in allow_delete if not name.isprintable()]:
            raise InvalidTenant([f"allow_delete: {bad[0]!r} is not a queue name. Name the queues to delete"])
        return admit_change(state, modules, plan, self._catalog)

    def _apply(self, state: DesiredState, on_event: OnEvent, allow_delete: Collection[str] = ()) -> Summary:
        source = self._source(state)
        summary = self._stacks.apply(state, on_event, allow_delete)
        self._rows.mark_applied(state, self._digest(state, source))
        return summary

    def _source(self, state: DesiredState) -> str | None:
        """Return the digest of what a run that now begins applies; None if it can't be read."""
        with suppress(KryonixError):
            return self._digests.source(state)
        return None

    def _is_intact(self, state: DesiredState, applied: str | None) -> bool:
        """Return True if state and registry rows are those that the run with this digest has left."""
        if applied is None:
            return False
        with suppress(KryonixError):
            mark, row = self._digests.mark(state.cliente_id), self._rows.configuration(state.cliente_id)
            return bool(mark) and applied.endswith(self._digests.made(mark, row))
        return False

    def _digest(self, state: DesiredState, source: str | None) -> Callable[[TenantRow | None], str | None]:
        """Return what makes the digest to keep after a successful run; of None if its source has changed meanwhile."""
        mark = ""
        if source is not None and source == self._source(state):
            with suppress(KryonixError):
                mark = self._digests.mark(state.cliente_id)
        return lambda row: self._digests.digest(source, mark, row) if source and mark else None

    def _suspend_and_count(self, state: DesiredState, on_event: OnEvent, *, accept_loss: bool) -> int:
        """Suspend the tenant without a change of its row, count its messages, and lift the protection."""
        suspended = replace(state, status="suspended") if state.status == "active" else state
        if not accept_loss:
            self._refuse_loss(state)  # before any change
        self._rows.mark_unapplied(state)
        self._stacks.apply(suspended, on_event)
        if not accept_loss:
            time.sleep(_COUNTS_AGE_S)
            self._refuse_loss(state)
        messages = self._stacks.messages(state)
        self._stacks.release(suspended, on_event)
        return sum(messages.values())

    def _refuse_loss(self, state: DesiredState) -> None:
        if held := self._stacks.messages(state):
            loss = f"{sum(held.values()):,} message(s) in {len(held)} queue(s) of the tenant {state.cliente_id!r}"
            remedy = (
                "Consume them, remove the tenant after the grace period, or accept the loss with `accept_loss=true`"
            )
            raise WouldLoseMessages(f"{loss} would be deleted; nothing has been changed. {remedy}", held)

    def _remove(self, state: DesiredState, on_event: OnEvent) -> Summary:
        """Lift the protection, mark the row removed, destroy the stack, then record the end."""
        if state.status == "removed" and not state.removing:
            return Summary({}, ())
        if state.status != "removed":
            self._stacks.release(state, on_event)
            state = self._rows.put(replace(state, status="removed"), over=state)
        summary = self._stacks.destroy(state, on_event)
        self._rows.retire(state)
        return summary


def _difference(before: Topology, after: Topology) -> Summary:
    """Return the objects that differ, as steps."""
    old, new = ({(kind.resource_type, name): it for kind, name, it in t.objects()} for t in (before, after))
    ops: dict[tuple[str, str], Op] = {key: "delete" for key in old if key not in new}
    ops |= {key: "update" if key in old else "create" for key in new if old.get(key) != new[key]}
    steps = tuple(Step("", name, type_, op) for (type_, name), op in ops.items())
    return Summary({**count_changes(steps), "same": len(new) - sum(op != "delete" for op in ops.values())}, steps)
