"""Adoption: move a tenant of a platform's list to a stack of its own, with nothing changed on the broker.

The one exception is the vhost's description, which names the stack that manages it. It decides who owns the tenant:
once it names the tenant's own stack, the platform's program refuses to run until the tenant has left its list and its
state. So the order is: copy the resources to the new stack's state; let its program write the description; write the
row; drop the resources from the platform's state; remove the entry from the list. A run killed anywhere is repeated
from the start: what is done already is done again, or found done.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kryonix.engines.deployments import (
    Deployment,
    emptied,
    resources_of,
    tenant_deployment,
    tenant_resources,
    without_tenant,
)
from kryonix.engines.engine import Engine, StackSpec, ignore
from kryonix.engines.errors import Refused
from kryonix.engines.events import OnEvent, Step
from kryonix.rabbitmq.broker import Broker
from kryonix.registry.desired_states import DesiredState
from kryonix.tenants.errors import UnknownTenant
from kryonix.tenants.rows import TenantRows
from kryonix.tenants.stacks import TenantStacks
from kryonix.topology.catalog import Catalog
from kryonix.topology.cells import Cells
from kryonix.topology.naming import Names
from kryonix.topology.notify import Notify
from kryonix.topology.tenants import find_entry, remove_entry

_VHOST: Final = "rabbitmq:index/vHost:VHost"
_ADDRESS: Final = frozenset(
    {
        "managementUrl",
        "adminUsername",
        "adminPassword",
        "amqpHost",
        "amqpPort",
        "managementUrls",
        "amqpAddresses",
        "dsn",
        "protected",
        "allowDelete",
        "notify",
        "authority",
    }
)
"""Inputs of the dynamic resources that come from the platform, from the stack's config, or only from a list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """What an adoption has done, or would do. `lines` are the first and last line of the entry in the list, if any."""

    tenant: str
    stack: str
    resources: int
    lines: tuple[int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantsFile:
    """A platform's list of tenants."""

    path: Path

    def entry(self, tenant_id: str) -> dict[str, Any] | None:
        """Return the entry of a tenant. Raises InvalidInput, and Refused for a file that can't be changed."""
        path = self.path
        try:
            found = find_entry(path.read_bytes(), path.name, tenant_id)
        except OSError as error:
            remedy = "Run as a user who can" if isinstance(error, PermissionError) else "Check kryonix:tenantsFile"
            raise Refused(f"{path} can't be read: {error.strerror}. {remedy}") from error
        if found is not None and not (os.access(path, os.W_OK) and os.access(path.resolve().parent, os.W_OK)):
            raise Refused(
                f"{path} can't be written, and the entry of {tenant_id!r} has to leave it. Run as a user who can"
            )
        return found

    def lines(self, tenant_id: str) -> tuple[int, int]:
        """Return the lines of an entry. Raises InvalidInput if it can't be removed by itself."""
        return remove_entry(self.path.read_bytes(), self.path.name, tenant_id)[1:]

    def remove(self, tenant_id: str) -> None:
        """Remove an entry; comments and other lines stay. One process at a time replaces the file, in one step."""
        path = self.path.resolve()
        folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            if self.entry(tenant_id) is not None:
                fresh = path.with_name(f".{path.name}.new")
                fresh.write_bytes(remove_entry(path.read_bytes(), path.name, tenant_id)[0])
                shutil.copymode(path, fresh)
                fresh.replace(path)
        finally:
            os.close(folder)


class Adoption:
    """Adoptions from one platform's list. They block, and can be repeated."""

    def __init__(
        self, registry_dsn: str, engine: Engine, cells: Cells, catalog: Catalog, platform: StackSpec, file: TenantsFile
    ) -> None:
        self._rows = TenantRows(registry_dsn)
        self._stacks = TenantStacks(engine, cells, catalog)
        self._engine = engine
        self._cells = cells
        self._platform = platform
        self._file = file

    def plan(self, tenant_id: str) -> Adopted:
        """Return what `run` would do. Changes nothing. Raises UnknownTenant and Refused."""
        return self._plan(tenant_id)[0]

    def run(self, tenant_id: str, on_event: OnEvent = ignore) -> Adopted:
        """Move the tenant, or finish its move. Raises UnknownTenant, TenantBusy and Refused."""
        with self._rows.lock(tenant_id):
            plan, state, document = self._plan(tenant_id)
            if state is not None:
                self._move(state, document, on_event)
            if plan.resources:
                self._engine.rewrite(self._platform, lambda found: without_tenant(found, tenant_id))
            if plan.lines:
                self._file.remove(tenant_id)
            return plan

    def _plan(self, tenant_id: str) -> tuple[Adopted, DesiredState | None, Deployment]:
        """Return the plan, the row to write (None if the tenant's stack is complete), and the platform's deployment."""
        row, entry = self._rows.live(tenant_id), self._file.entry(tenant_id)
        document = self._engine.export(self._platform, show_secrets=True)
        moved = tenant_resources(document, tenant_id)
        stack = Names(tenant_id).stack
        made = resources_of(self._engine.export(StackSpec(name=stack)))
        if row is None and not moved:
            raise UnknownTenant(tenant_id)
        state = None
        if row is None or (moved and not made):
            state = self._row(tenant_id, entry, begun=self._owner(tenant_id) == stack)
        lines = self._file.lines(tenant_id) if entry is not None else None
        return Adopted(tenant=tenant_id, stack=stack, resources=len(moved), lines=lines), state, document

    def _row(self, tenant_id: str, entry: dict[str, Any] | None, *, begun: bool) -> DesiredState:
        """Return the row of a deployed tenant. Raises Refused if its entry differs: the platform applies it first.

        The entry does not count for an adoption that has begun, as the platform's stack may not run any more.
        """
        made = self._engine.outputs(self._platform).get("tenants", {}).get(tenant_id)
        status, notify = self._rows.registered(tenant_id)
        up = f"Run `kryonix up --stack {self._platform.name}` first"
        if made is None or status is None:
            raise Refused(f"the tenant {tenant_id!r} is not deployed completely. {up}")
        declared = {**(entry or {}), "notify": Notify.stored((entry or {}).get("notify"))}
        if begun:  # the first run of the tenant's own stack drops it from the row that a list's tenant has
            notify = notify or declared["notify"]
        deployed = {
            "modules": list(made["modules"]),
            "plan": made["plan"],
            "status": status,
            "auth": made.get("auth", "password"),
            "notify": notify,
        }
        if entry is None and not begun:
            remedy = f"the next `up` would remove it. Put its entry back into {self._file.path.name}, then try again"
            raise Refused(f"{self._file.path.name} has no tenant {tenant_id!r}, and {remedy}")
        wanted = {"status": "active", "auth": "password", **declared} | (deployed if begun else {})
        if different := [name for name, value in deployed.items() if wanted.get(name) != value]:
            where = self._file.path.name
            raise Refused(f"{where} has changes of {tenant_id!r} that are not applied: {', '.join(different)}. {up}")
        cell = self._cell(str(wanted.get("cell", "main")))
        return DesiredState(
            cliente_id=tenant_id,
            modules=tuple(made["modules"]),
            plan=made["plan"],
            status=status,
            cell=cell,
            auth=deployed["auth"],
            notify=notify,
        )

    def _cell(self, wanted: str) -> str:
        """Return the cell of this platform, the wanted one if it is one of several."""
        name = self._platform.name.rpartition("/")[2]
        found = [cell for cell, it in self._cells.cells.items() if it.stack == name]
        if not found:
            raise Refused(f"no cell in cells.yaml has the platform {name!r}. Add one, then try again")
        cell = wanted if wanted in found else found[0]
        if (registry := self._cells.cell(cell).registry) and registry != self._cells.cell(cell).platform:
            remedy = "Remove `registry` from the cell, or keep the tenant in the list"
            raise Refused(f"the cell {cell!r} has its registry in another stack, {registry!r}. {remedy}")
        return cell

    def _owner(self, tenant_id: str) -> str:
        """Return the stack in the description of the tenant's vhost. Raises Refused without a vhost."""
        names = Names(tenant_id)
        vhosts = Broker.of(self._engine.outputs(self._platform)).vhosts()
        found = [vhost.description for vhost in vhosts if vhost.name == names.vhost]
        if not found:
            stack = self._platform.name
            remedy = f"Run `kryonix refresh --stack {stack}` and `kryonix up --stack {stack}` first"
            raise Refused(f"the broker has no vhost {names.vhost}. {remedy}")
        return found[0].rpartition(" ")[2]

    def _move(self, state: DesiredState, document: Deployment, on_event: OnEvent) -> None:
        """Make the tenant's own stack from its part of the platform's deployment, and write the row.

        A stack that the vhost names is complete: an earlier run has made it, and only its row is missing.
        """
        spec = StackSpec(name=Names(state.cliente_id).stack, config={})
        if self._owner(state.cliente_id) != spec.name:
            part = tenant_deployment(document, state.cliente_id, spec.name)
            self._engine.rewrite(spec, lambda _: part)
            try:
                self._refuse_changes(state)
            except Exception:
                self._engine.rewrite(spec, emptied)  # else a `destroy` of it would delete the tenant
                raise
        self._stacks.apply(state, on_event)
        self._rows.adopt(state)

    def _refuse_changes(self, state: DesiredState) -> None:
        """Raise Refused if the first run of the tenant's own stack would change the tenant."""
        preview = self._stacks.preview(state, (), ignore)
        unexpected = (
            [f"{step.op} {step.name}" for step in preview.steps if not _expected(step)] if preview else ["delete"]
        )
        if unexpected:
            raise Refused(
                f"the tenant {state.cliente_id!r} would change with its move ({len(unexpected)}: "
                f"{', '.join(unexpected[:5])}). Run `kryonix up --stack {self._platform.name}` first; a stack of its "
                "own uses the default catalog. Nothing has been changed"
            )


def _expected(step: Step) -> bool:
    """Return True for a step of the first run that changes nothing on the broker but the vhost's description."""
    if step.op in ("same", "read"):
        return True
    if step.type.startswith("pulumi:"):
        return step.op in ("create", "update")
    if step.type.startswith("pulumi-python:"):
        return step.op == "update" and _ADDRESS.issuperset(step.changed)
    return (step.op, step.type, step.changed) == ("update", _VHOST, ("description",))
