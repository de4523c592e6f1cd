"""Apply rows to tenants' stacks; disconnect users and verify the result on the broker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from kryonix.engines.engine import Engine, StackSpec, ignore
from kryonix.engines.errors import EngineFailed, LifecycleError, Refused
from kryonix.engines.events import Diagnostic, OnEvent, Step, Summary
from kryonix.rabbitmq.broker import Broker
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.registry.desired_states import DesiredState
from kryonix.tenants.credentials import Credentials
from kryonix.tenants.errors import InvalidTenant, NotRemoved, WouldLoseMessages, translate_loss_errors
from kryonix.tenants.specs import deployed, spec_for, users_of, vhost_of, what_is_sold
from kryonix.tenants.undeclared import (
    LEFT_ALONE,
    Declared,
    Undeclared,
    declared_vhosts,
    find_undeclared,
    remove_harmless,
)
from kryonix.topology.catalog import Catalog
from kryonix.topology.cells import Cells
from kryonix.topology.tenants import Tenant


class TenantStacks:
    """Tenants' own stacks. The caller holds the tenant's lock."""

    def __init__(self, engine: Engine, cells: Cells, catalog: Catalog, *, deletion_protection: bool = True) -> None:
        self._engine = engine
        self._cells = cells
        self._catalog = catalog
        self._deletion_protection = deletion_protection

    def spec(
        self, state: DesiredState, allow_delete: Collection[str] = (), *, protect: bool | None = None
    ) -> StackSpec:
        """Return the tenant's stack with its config."""
        return spec_for(
            state,
            self._cells,
            deletion_protection=self._deletion_protection,
            allow_delete=allow_delete,
            protect=protect,
            sold=what_is_sold(state, self._engine, self._catalog),
        )

    def broker(self, state: DesiredState) -> Broker:
        """Return the broker of the tenant's cell."""
        return Broker.of(self._platform(state.cell))

    def refuse_login(self, tenant: Tenant) -> None:
        """Raise InvalidTenant for a new tenant with a certificate, if its platform issues none.

        Its stack would be refused too, but then there would be a row of a tenant that can't be made.
        """
        if tenant.auth == "certificate" and not self._platform(tenant.cell).get("client_authority"):
            reason = "the platform issues no certificates: it has no TLS, or certificates that others make"
            raise InvalidTenant([f"auth: {reason}. Use `password`, or set kryonix:tls on the platform's stack"])

    def _platform(self, cell: str) -> Mapping[str, Any]:
        """Return the outputs of a cell's platform."""
        return self._engine.outputs(StackSpec(name=self._cells.cell(cell).stack))

    def is_made_elsewhere(self, state: DesiredState) -> bool:
        """Return True if the broker has the tenant's vhost, and the stack has no state here."""
        deployment = self._engine.export(self.spec(state)).get("deployment") or {}
        known = deployment.get("resources") or deployment.get("pending_operations")
        return not known and bool(self.broker(state).remains(vhost_of(state), ()))

    def standing(self, state: DesiredState) -> DesiredState:
        """Return the row with the deployed modules and plan, if its last run has not finished."""
        if state.converged:
            return state
        made = deployed(self._engine, state.cliente_id)
        return replace(state, modules=tuple(made["modules"]), plan=made["plan"]) if made else state

    def keeps(self, state: DesiredState) -> bool:
        """Return True for a tenant over its plan's limits, if the row adds nothing to the stack."""
        made = what_is_sold(state, self._engine, self._catalog)
        return made is not None and made["plan"] == state.plan and set(state.modules) <= set(made["modules"])

    def apply(
        self, state: DesiredState, on_event: OnEvent, allow_delete: Collection[str] = (), *, read: bool = False
    ) -> Summary:
        """Apply the row, and disconnect the users of a tenant not active. `read`: the state is as the broker is."""
        summary = self._up(state, on_event, allow_delete, read=read)
        if allow_delete:  # accepted once: a later queue of the same name keeps its messages
            self._engine.up(self.spec(state), on_event)
        if state.status != "active":
            self.broker(state).cut_off(users_of(state))
        return summary

    def mend(self, state: DesiredState, on_event: OnEvent) -> Summary:
        """Read the real resources, apply the row, and remove harmless undeclared objects.

        Undeclared queues, exchanges and users stay; a warning names each.
        """
        spec, read = self.spec(state), False
        if self._engine.outputs(spec):
            try:
                self._engine.refresh(spec, on_event)
            except EngineFailed as error:
                if error.exit_status == Refused.exit_status:
                    raise
                # A recreated platform: the state may have the broker's old address or login.
                self._up(state, on_event, ())
                self._engine.refresh(spec, on_event)
            read = True
        summary = self.apply(state, on_event, read=read)
        made: list[Step] = []
        if declared := self.declared(state):
            broker = self.broker(state)
            if made := self.changed_logins(state, broker):
                passwords = self.credentials(state).passwords
                for step in made:
                    broker.set_password(step.name, passwords[step.name])
            made += self._removed_strangers(state, broker, declared, on_event)
        counted = Counter(summary.changes) + Counter(step.op for step in made)
        return Summary(dict(counted), (*summary.steps, *made), summary.outputs, summary.seconds)

    def declared(self, state: DesiredState) -> Declared | None:
        """Return the declared names in the tenant's vhost; None for a stack without resources."""
        return declared_vhosts(self._engine.export(self.spec(state))).get(vhost_of(state))

    def changed_logins(self, state: DesiredState, broker: Broker) -> list[Step]:
        """Return an update for each user whose password was changed by hand: no engine reads passwords back."""
        made = deployed(self._engine, state.cliente_id)
        if not made:
            return []
        changed = broker.with_other_password(Credentials.of(made).passwords)
        return [Step("", user, "rabbitmq:index/user:User", "update", ("password",)) for user in changed]

    def undeclared(self, state: DesiredState) -> Undeclared:
        """Return the undeclared objects of the tenant's vhost; none for a stack without resources."""
        vhost, declared = vhost_of(state), self.declared(state)
        return find_undeclared(self.broker(state), vhost, declared) if declared else Undeclared(vhost=vhost)

    def preview(self, state: DesiredState, allow_delete: Collection[str], on_event: OnEvent) -> Summary | None:
        """Return what applying the row would do; None if the engine can't tell before `before_deletion`."""
        try:
            return self._engine.preview(self.spec(state, allow_delete), on_event)
        except EngineFailed as error:
            if error.kind != "protected":
                raise
            return None

    def before_deletion(
        self, before: DesiredState, wanted: DesiredState, allow_delete: Collection[str], on_event: OnEvent
    ) -> None:
        """Refuse a change that loses messages, before the row is written; then unprotect the queues."""
        protected = self._cells.cell(before.cell).protect
        with translate_loss_errors(ignore_protection=protected):
            self._engine.preview(self.spec(wanted, allow_delete))
        if protected:
            self._engine.up(self.spec(before, protect=False), on_event)

    def release(self, state: DesiredState, on_event: OnEvent) -> None:
        """Lift the protection in a run of its own. Skip a tenant without a vhost."""
        if self.definitions(state):
            self._unprotected(state, on_event)

    def destroy(self, state: DesiredState, on_event: OnEvent) -> Summary:
        """Remove a released tenant and verify it on the broker. Raises NotRemoved.

        A stack with a lost state removes nothing and succeeds; one with an old state refuses. In both cases, the
        remaining objects are adopted and released, then removed.
        """
        summary = Summary({}, ())
        with suppress(WouldLoseMessages), translate_loss_errors(ignore_protection=True):
            summary = self._engine.destroy(self.spec(state), on_event)
        if self._remains(state):
            self._unprotected(state, ignore)
            summary = self._engine.destroy(self.spec(state), on_event)
            if remains := self._remains(state):
                raise NotRemoved(state.cliente_id, remains)
        return summary

    def credentials(self, state: DesiredState) -> Credentials:
        """Return the credentials in the stack's outputs."""
        outputs = self._engine.outputs(self.spec(state))
        return Credentials.of(outputs["tenants"][state.cliente_id], outputs)

    def definitions(self, state: DesiredState) -> dict[str, Any]:
        """Return exchanges, queues, bindings, policies and limits of the vhost; empty without a vhost."""
        return self.broker(state).definitions(vhost_of(state))

    def messages(self, state: DesiredState) -> dict[str, int]:
        """Return the message counts of non-empty queues, up to 5 s old."""
        return self.broker(state).messages(vhost_of(state))

    def _up(
        self, state: DesiredState, on_event: OnEvent, allow_delete: Collection[str], *, read: bool = False
    ) -> Summary:
        """Run the stack; refresh and run it again if the broker has lost resources of the state.

        `up` trusts the state: after a loss of the broker's data it finds nothing to do, or fails. The first run updates
        the broker's address and login in the state, so the refresh comes after it.
        """
        spec = self.spec(state, allow_delete)
        try:
            summary = self._engine.up(spec, on_event)
        except EngineFailed as error:
            lost = False
            with suppress(LifecycleError, BrokerUnavailable):  # no answer: the engine's own error counts
                made = error.exit_status != Refused.exit_status and self._engine.outputs(spec)
                lost = bool(made) and self._lost(state)
            if not lost:
                raise
        else:
            # What was just read or made is there.
            if read or "create" in summary.changes or not self._lost(state):
                return summary
        self._engine.refresh(spec, on_event)
        return self._engine.up(spec, on_event)

    def _removed_strangers(
        self, state: DesiredState, broker: Broker, declared: Declared, on_event: OnEvent
    ) -> list[Step]:
        vhost = vhost_of(state)
        removed, left = remove_harmless(broker, vhost, declared)
        if left:
            on_event(
                Diagnostic("warning", "\n".join([f"undeclared objects stay in {vhost}:", *left.lines(), LEFT_ALONE]))
            )
        return [Step("", stranger.name, stranger.kind, "delete") for stranger in removed.strangers]

    def _lost(self, state: DesiredState) -> bool:
        """Return True if a deployed stack's vhost, or one of its users, is missing on the broker."""
        return len(self._remains(state)) < 1 + len(users_of(state))

    def _unprotected(self, state: DesiredState, on_event: OnEvent) -> None:
        queues = {queue["name"] for queue in self.definitions(state).get("queues", ())}
        self._engine.up(self.spec(state, queues, protect=False), on_event)

    def _remains(self, state: DesiredState) -> list[str]:
        return self.broker(state).remains(vhost_of(state), users_of(state))
