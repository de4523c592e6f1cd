"""Restore a tenant: its vhost, users, rows and the state of its stack, together or not at all.

The vhost takes no connections from the first change to the last. Rows are written in one transaction, which ends when
all the rest is there; only then the vhost is opened. A failure before that is undone. After a `kill -9` the vhost is
closed at worst, and the same restore run again completes it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from kryonix.backup.errors import NotUndone
from kryonix.backup.objects import open_vhost, put_objects, put_users
from kryonix.backup.reading import read_live
from kryonix.backup.renaming import rename_state, renamed
from kryonix.backup.restore_plan import (
    RestorePlan,
    narrowed_queues,
    owner_of,
    refuse_few_nodes,
    replaced_queues,
    trimmed_queues,
)
from kryonix.backup.rollback import Rollback, close_vhost, delete_objects, put_policies, settled_messages
from kryonix.backup.snapshot import TenantSnapshot
from kryonix.engines.engine import Engine, StackSpec, ignore
from kryonix.engines.errors import Refused
from kryonix.errors import KryonixError
from kryonix.rabbitmq.broker import Broker
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.registry.connection import Connection, connect
from kryonix.registry.desired_states import mark_unapplied
from kryonix.registry.tables import add_rows, put_rows, tenant_tables
from kryonix.tenants.admission import invalid_tenant
from kryonix.tenants.errors import StateElsewhere, TenantExists, WrongState
from kryonix.tenants.rows import TenantRows
from kryonix.tenants.stacks import TenantStacks
from kryonix.topology.catalog import Catalog, default_catalog
from kryonix.topology.cells import Cells
from kryonix.topology.tenants import parse_tenant

OnStep = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A finished restore, and what it found and changed."""

    plan: RestorePlan
    seconds: float


class TenantRestore:
    """Restores of tenants on one broker. They block, and can be repeated."""

    def __init__(
        self,
        broker: Broker,
        registry_dsn: str,
        engine: Engine,
        cells: Cells | None = None,
        catalog: Catalog | None = None,
        *,
        service_worker: str = "",
    ) -> None:
        """`cells` and `catalog` are needed to restore under another id only.

        `service_worker` is the container of the signup service's worker, which keeps its tenants' state there.
        """
        self._broker, self._dsn, self._engine = broker, registry_dsn, engine
        self._cells, self._catalog = cells, catalog or default_catalog()
        self._rows = TenantRows(registry_dsn)
        self._service_worker = service_worker

    def plan(self, snapshot: TenantSnapshot, *, nodes: int = 1, as_id: str | None = None) -> RestorePlan:
        """Return what `run` would do. Changes nothing. `nodes` are those of the cluster in the bundle's manifest.

        With `as_id`, the tenant is restored as a new one. Raises Refused where it can't be.
        """
        if as_id is None:
            return self._plan(snapshot, nodes, None)
        with invalid_tenant():
            parse_tenant({**snapshot.entry, "id": as_id}, "tenant", self._catalog)
        if as_id == snapshot.tenant:
            raise TenantExists(f"the bundle is of the tenant {as_id!r} already. Restore it without another id")
        if snapshot.state is None or not snapshot.rows["tenants.desired_states"]:
            remedy = "Restore it under its own id, then move it to one (`kryonix tenant adopt`)"
            problem = f"the bundle of {snapshot.tenant!r} has no stack made by `kryonix tenant`, which {as_id!r} needs"
            raise Refused(f"{problem}. {remedy}")
        return self._plan(renamed(snapshot, as_id), nodes, snapshot.tenant)

    def run(
        self,
        plan: RestorePlan,
        *,
        allow_delete: Collection[str] = (),
        fewer_nodes: bool = False,
        on_step: OnStep = lambda _: None,
    ) -> Restored:
        """Restore, and return what was found. The plan is made again, with the tenant locked.

        Raises TenantBusy, ShortOfNodes, WouldLoseMessages, and what the services raise; then the tenant is as it was.
        Raises NotUndone if it is not.
        """
        started = time.monotonic()
        with self._rows.lock(plan.tenant):
            plan = self._plan(plan.snapshot, plan.nodes, plan.renamed_from)
            refuse_few_nodes(self._broker, plan.nodes, fewer=fewer_nodes)
            plan.refuse_losses(allow_delete)
            self._write(plan, allow_delete, on_step)
            if plan.renamed_from:
                on_step("stack")
                self._settle(plan)
            on_step("open")
            open_vhost(self._broker, plan.snapshot, plan.snapshot.names.vhost)
        return Restored(plan=plan, seconds=time.monotonic() - started)

    def _plan(self, snapshot: TenantSnapshot, nodes: int, renamed_from: str | None) -> RestorePlan:
        now = read_live(self._broker, self._dsn, self._engine, snapshot.tenant)
        self._refuse_conflict(snapshot, now, new=renamed_from is not None)
        return RestorePlan(
            snapshot=snapshot,
            now=now,
            nodes=nodes,
            replaced=replaced_queues(self._broker, snapshot, now),
            trimmed=trimmed_queues(self._broker, snapshot, now),
            narrowed=bool(narrowed_queues(self._broker, snapshot, now)),
            renamed_from=renamed_from,
        )

    def _refuse_conflict(self, snapshot: TenantSnapshot, now: TenantSnapshot, *, new: bool) -> None:
        """Raise Refused for a tenant that something else manages, removes, or has."""
        tenant = snapshot.tenant
        if new and any(now.rows.values()):
            remedy = f"Choose another id. After an interrupted restore, `kryonix tenant converge {tenant}` completes it"
            raise TenantExists(f"the tenant {tenant!r} exists, or has existed. {remedy}")
        if new and now.vhost is not None and self._broker.messages(snapshot.names.vhost):
            raise TenantExists(f"the broker has a vhost {snapshot.names.vhost} with messages. Choose another id")
        owner, owned_by = owner_of(snapshot), owner_of(now)
        if now.vhost is not None and owner != owned_by:
            remedy = "Use a bundle made since then"
            raise Refused(
                f"the stack {owned_by!r} manages the tenant {tenant!r} now, and the bundle is of a time when {owner!r} "
                f"did. {remedy}"
            )
        for row in now.rows["tenants.desired_states"]:
            if row["status"] == "removed" and row["remove_after"] is not None:
                remedy = "Complete the removal, then restore the tenant"
                raise WrongState(f"the removal of the tenant {tenant!r} is in progress. {remedy}")
        if self._service_worker and snapshot.state is not None and now.state is None and now.vhost is not None:
            raise StateElsewhere(tenant, self._service_worker)

    def _write(self, plan: RestorePlan, allow_delete: Collection[str], on_step: OnStep) -> None:
        """Write everything but the limits of the vhost; on a failure, bring back what was there."""
        snapshot, vhost = plan.snapshot, plan.snapshot.names.vhost
        rollback = Rollback(self._broker, self._engine, plan)
        try:
            if plan.exists:
                on_step("close")
                close_vhost(self._broker, plan.now)
                self._replace(plan, allow_delete)
                put_policies(self._broker, snapshot, plan.now)
            on_step("objects")
            put_objects(self._broker, snapshot, vhost)
            if plan.severed:
                self._broker.import_definitions(vhost, {"bindings": plan.severed})
            with connect(self._dsn) as connection:
                on_step("rows")
                _put_rows(connection, plan)
                on_step("users")
                put_users(self._broker, snapshot, vhost, administrator=self._broker.username)
                if plan.state == "restored":
                    on_step("state")
                    rollback.with_state = True
                    self._put_state(plan)
        except BaseException as error:
            on_step("undo")
            self._undo(rollback, error)
            raise

    def _replace(self, plan: RestorePlan, allow_delete: Collection[str]) -> None:
        """Delete queues and exchanges that have other arguments: the import would leave them as they are.

        The messages are counted again: until the vhost was closed, new ones may have come.
        """
        vhost = plan.snapshot.names.vhost
        if plan.replaced or plan.narrowed:
            counts = settled_messages(self._broker, vhost, {queue["name"] for queue in plan.now.definitions["queues"]})
            if uncounted := [name for name, count in counts.items() if count is None]:
                problem = f"has not counted the messages of {len(uncounted)} queue(s) yet, such as {uncounted[0]}"
                raise BrokerUnavailable(f"the broker at {self._broker.url} {problem}. Run again in a minute", problem)
            found = self._plan(plan.snapshot, plan.nodes, plan.renamed_from)
            found.refuse_losses(allow_delete)
        delete_objects(self._broker, vhost, "queues", plan.replaced)
        delete_objects(self._broker, vhost, "exchanges", plan.changed("exchange"))

    def _put_state(self, plan: RestorePlan) -> None:
        """Import the stack's state; under another id, its secrets are renamed once they are readable."""
        spec = StackSpec(name=plan.snapshot.names.stack, config={})
        self._engine.restore(spec, dict(plan.snapshot.state or {}))
        if plan.renamed_from:
            self._engine.rewrite(spec, rename_state(plan.renamed_from, plan.tenant))

    def _settle(self, plan: RestorePlan) -> None:
        """Run the stack of a renamed tenant: hashes of its password depend on the names of its users."""
        if self._cells is None:
            raise ValueError("a restore under another id needs the cells")
        if (state := self._rows.live(plan.tenant)) is not None:
            TenantStacks(self._engine, self._cells, self._catalog).apply(state, ignore)
            self._rows.mark_applied(state)

    def _undo(self, rollback: Rollback, error: BaseException) -> None:
        try:
            rollback.run()
        except KryonixError as failure:
            vhost = rollback.plan.snapshot.names.vhost
            raise NotUndone(
                f"{error}. What the restore had made could not be taken back ({failure}): the vhost {vhost} takes no "
                "connections. Run the restore again: it continues from there"
            ) from error


def _put_rows(connection: Connection, plan: RestorePlan) -> None:
    """Write the tenant's rows. Final exports that are there stay: they are history."""
    for table in tenant_tables(connection):
        rows = list(plan.snapshot.rows.get(table.name, ()))
        if table.identity is None:
            put_rows(connection, table, rows)
        else:
            add_rows(connection, table, rows)
    if plan.renamed_from:
        mark_unapplied(connection, plan.tenant)
