"""Tenants' stacks, brought to what a row says, and what the program does not do: cutting off, looking afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from typing import Any

from kryonix.engines.engine import Engine, StackSpec, ignore
from kryonix.engines.errors import EngineFailed, LifecycleError, NotRemoved, Refused, WouldLoseMessages
from kryonix.engines.events import Diagnostic, OnEvent, Step, Summary
from kryonix.rabbitmq.broker import Broker, password_step
from kryonix.registry.desired_states import DesiredState
from kryonix.tenants.credentials import Credentials
from kryonix.tenants.losses import translate_loss_errors
from kryonix.tenants.specs import spec_for, tenant_of, users_of, what_is_sold
from kryonix.tenants.undeclared import (
    LEFT_ALONE,
    Undeclared,
    declared_vhosts,
    find_undeclared,
    remove_harmless,
)
from kryonix.topology.catalog import Catalog
from kryonix.topology.cells import Cells

__all__ = ["TenantStacks"]


class TenantStacks:
    """The stacks of tenants that have one of their own. Who calls is alone with the tenant."""

    def __init__(self, engine: Engine, cells: Cells, catalog: Catalog, *, deletion_protection: bool = True) -> None:
        self._engine = engine
        self._cells = cells
        self._catalog = catalog
        self._deletion_protection = deletion_protection

    def standing(self, state: DesiredState) -> DesiredState:
        """The row as the world is: as the stack's last finished run has made it, where the row's own has not ended."""
        if state.converged:
            return state
        made = self._engine.outputs(self._spec(state)).get("tenants", {}).get(state.cliente_id)
        return replace(state, modules=tuple(made["modules"]), plan=made["plan"]) if made else state

    def keeps(self, state: DesiredState) -> bool:
        """Return True if a tenant that its plan no longer admits asks for nothing that its stack does not have."""
        made = what_is_sold(state, self._engine, self._catalog)
        return made is not None and made["plan"] == state.plan and set(state.modules) <= set(made["modules"])

    def apply(self, state: DesiredState, on_event: OnEvent, allow_delete: Collection[str] = ()) -> Summary:
        """Bring the world to the row. Whoever may not connect any more is cut off."""
        summary = self._up(state, on_event, allow_delete)
        if allow_delete:  # accepted this once: a queue that has the same name later is not to go with its messages
            self._engine.up(self._spec(state), on_event)
        if state.status != "active":
            self._broker(state).cut_off(users_of(state))
        return summary

    def mend(self, state: DesiredState, on_event: OnEvent) -> Summary:
        """Bring the world to the row, whatever was done by hand: read it first, and remove what nobody declared.

        Queues, exchanges and users that nobody declared stay, each named in a warning.
        """
        spec = self._spec(state)
        if self._engine.outputs(spec):
            try:
                self._engine.refresh(spec, on_event)
            except EngineFailed as error:
                if error.exit_status == Refused.exit_status:
                    raise
                # The state may not know where the broker is now, or how to log in: a platform that was made anew.
                self._up(state, on_event, ())
                self._engine.refresh(spec, on_event)
        summary = self.apply(state, on_event)
        steps = [*summary.steps, *self._restored_login(state), *self._removed_strangers(state, on_event)]
        seconds, counted = summary.seconds, Counter(summary.changes)
        counted.update(step.op for step in steps[len(summary.steps) :])
        return Summary(dict(counted), tuple(steps), summary.outputs, seconds)

    def undeclared(self, state: DesiredState) -> Undeclared:
        """What is in the tenant's vhost that its stack never declared. Nothing where the stack was never made."""
        vhost = tenant_of(state).names.vhost
        declared = declared_vhosts(self._engine.export(self._spec(state))).get(vhost)
        return find_undeclared(self._broker(state), vhost, declared) if declared else Undeclared(vhost=vhost)

    def before_deletion(
        self, before: DesiredState, wanted: DesiredState, allow_delete: Collection[str], on_event: OnEvent
    ) -> None:
        """Refuse a change that loses messages, before the row says it; then let the queues go, where protected."""
        protected = self._cells.cell(before.cell).protect
        with translate_loss_errors(ignore_protection=protected):
            self._engine.preview(self._spec(wanted, allow_delete))
        if protected:
            self._engine.up(self._spec(before, protect=False), on_event)

    def release(self, state: DesiredState, on_event: OnEvent) -> None:
        """Lift what protects a tenant, in a step of its own. Nothing where it was never made."""
        if self.definitions(state):
            self._unprotected(state, on_event)

    def destroy(self, state: DesiredState, on_event: OnEvent) -> Summary:
        """Remove a tenant that was released, and look whether it is gone. Raises NotRemoved where it is not.

        A stack whose state was lost removes nothing and says that it is done; one whose state is older than the release
        refuses. What there is is then taken over and released first, and removed after that.
        """
        summary = Summary({}, ())
        with suppress(WouldLoseMessages), translate_loss_errors(ignore_protection=True):
            summary = self._engine.destroy(self._spec(state), on_event)
        if self._remains(state):
            self._unprotected(state, ignore)
            summary = self._engine.destroy(self._spec(state), on_event)
            if remains := self._remains(state):
                raise NotRemoved(state.cliente_id, remains)
        return summary

    def credentials(self, state: DesiredState) -> Credentials:
        """What the stack has made last for the tenant's applications to log in with."""
        return Credentials.of(self._engine.outputs(self._spec(state))["tenants"][state.cliente_id])

    def definitions(self, state: DesiredState) -> dict[str, Any]:
        """Exchanges, queues, bindings, policies and limits of the tenant's vhost. Empty where there is none."""
        return self._broker(state).definitions(tenant_of(state).names.vhost)

    def messages(self, state: DesiredState) -> dict[str, int]:
        """How many messages each of the tenant's queues holds that holds any, as of up to 5 s ago."""
        return self._broker(state).messages(tenant_of(state).names.vhost)

    def _up(self, state: DesiredState, on_event: OnEvent, allow_delete: Collection[str]) -> Summary:
        """Run the stack; a second time where its state says that there is what the broker has lost.

        The broker's data may be gone, or the platform made anew: an `up` trusts the state, so that finds nothing to do
        or breaks off at what it builds on. The first run has told the state where the broker is now, and how to log in;
        so only then can it be read what is still there.
        """
        spec = self._spec(state, allow_delete)
        try:
            summary = self._engine.up(spec, on_event)
        except EngineFailed as error:
            if error.exit_status == Refused.exit_status or not self._lost_unless_down(state):
                raise
        else:
            if "create" in summary.changes or not self._lost(state):  # what was just made is there
                return summary
        self._engine.refresh(spec, on_event)
        return self._engine.up(spec, on_event)

    def _removed_strangers(self, state: DesiredState, on_event: OnEvent) -> list[Step]:
        vhost = tenant_of(state).names.vhost
        declared = declared_vhosts(self._engine.export(self._spec(state))).get(vhost)
        if declared is None:
            return []
        removed, left = remove_harmless(self._broker(state), vhost, declared)
        if left:
            on_event(Diagnostic("warning", "\n".join([f"in {vhost} there is what stays:", *left.lines(), LEFT_ALONE])))
        return [Step("", stranger.name, stranger.kind, "delete") for stranger in removed.strangers]

    def _restored_login(self, state: DesiredState) -> list[Step]:
        """Give the current users their password again where somebody changed it: no engine reads passwords back."""
        made = self._engine.outputs(self._spec(state)).get("tenants", {}).get(state.cliente_id)
        if not made or not declared_vhosts(self._engine.export(self._spec(state))):
            return []
        broker, password = self._broker(state), str(made["password"])
        changed = broker.with_other_password(str(made["username"]), password)
        for user in changed:
            broker.set_password(user, password)
        return [password_step(user) for user in changed]

    def _lost_unless_down(self, state: DesiredState) -> bool:
        """Whether the broker says that it has lost something; one that says nothing has its own failure to be told."""
        try:
            return self._lost(state)
        except LifecycleError:
            return False

    def _lost(self, state: DesiredState) -> bool:
        """Whether the stack was made once, and its vhost or a user of it is not on the broker."""
        if not self._engine.outputs(self._spec(state)):
            return False
        users = users_of(state)
        return len(self._remains(state)) < 1 + len(users)

    def _unprotected(self, state: DesiredState, on_event: OnEvent) -> None:
        queues = {queue["name"] for queue in self.definitions(state).get("queues", ())}
        self._engine.up(self._spec(state, queues, protect=False), on_event)

    def _remains(self, state: DesiredState) -> list[str]:
        return self._broker(state).remains(tenant_of(state).names.vhost, users_of(state))

    def _spec(
        self, state: DesiredState, allow_delete: Collection[str] = (), *, protect: bool | None = None
    ) -> StackSpec:
        return spec_for(
            state,
            self._cells,
            deletion_protection=self._deletion_protection,
            allow_delete=allow_delete,
            protect=protect,
            sold=what_is_sold(state, self._engine, self._catalog),
        )

    def _broker(self, state: DesiredState) -> Broker:
        return Broker(self._engine.outputs(StackSpec(name=self._cells.cell(state.cell).stack)))
