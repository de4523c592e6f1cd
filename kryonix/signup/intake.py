"""Accept requests for operations: check the tenant's state, place a new tenant, and enqueue the job."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast, get_args

from kryonix.fleet.members import cell_loads
from kryonix.fleet.placement import Load, choose_cell, load_of
from kryonix.registry.connection import Connection
from kryonix.registry.desired_states import DesiredState, fetch_desired_state, fetch_desired_states
from kryonix.signup import operations, sealing
from kryonix.signup.database import QUERIES, Database
from kryonix.signup.errors import DeclaredInFile, KeyReused, OperationUnderWay
from kryonix.signup.keys import Caller
from kryonix.signup.operations import GIVES_CREDENTIALS, Kind, Operation, Request, enqueue
from kryonix.tenants.admission import admit, admit_change, as_sold, invalid_tenant
from kryonix.tenants.errors import UnknownTenant
from kryonix.tenants.specs import tenant_of
from kryonix.tenants.transitions import Transition, check_transition, generation_in_use, unfinished_creation
from kryonix.topology.catalog import Catalog
from kryonix.topology.cells import Cells
from kryonix.topology.expansion import Topology
from kryonix.topology.tenants import Tenant, parse_tenant


def place(connection: Connection, tenant: Tenant, asked: str | None, cells: Cells, catalog: Catalog) -> str:
    """Return the cell for a new tenant. Raises InvalidTenant for an unknown cell, and NoRoom.

    Counts what registry rows promise, without asking the brokers: promised limits have to fit.
    """
    if asked is not None:
        with invalid_tenant():
            cells.cell(asked)
        return asked
    connection.execute(QUERIES["hold_placement"])
    # In this order, a creation that writes its row between the two reads is seen by at least one of them.
    coming = [Tenant.model_validate(row["request"]) for row in connection.execute(QUERIES["fetch_creations_under_way"])]
    states = fetch_desired_states(connection)
    loads = cell_loads(states, {}, {}, catalog)
    there = {state.cliente_id for state in states if state.status != "removed"}
    for each in coming:
        if each.id not in there:
            loads[each.cell] = loads.get(each.cell, Load()) + load_of(each, catalog)
    return choose_cell(load_of(tenant, catalog), cells, loads).cell


_ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """An operation accepted now or before. `credentials_key` opens the credentials that it creates."""

    operation: Operation
    credentials_key: str | None = field(default=None, repr=False)


class Intake:
    """Accept operations. Raises the refusals of `kryonix.tenants`, OperationUnderWay and KeyReused."""

    def __init__(self, database: Database, catalog: Catalog, cells: Cells) -> None:
        self._database = database
        self._catalog = catalog
        self._cells = cells

    def accept(
        self,
        kind: Kind,
        tenant: str,
        request: dict[str, Any],
        caller: Caller,
        idempotency_key: str | None = None,
    ) -> Accepted:
        """Store an operation and its job. A repeated idempotency key returns the earlier operation."""
        content = json.dumps([kind, tenant, request], sort_keys=True)  # whatever the order of names in the request
        fingerprint = hashlib.sha256(content.encode()).digest()
        key = None
        if kind in GIVES_CREDENTIALS and idempotency_key is None:
            key = sealing.random_key()
        elif kind in GIVES_CREDENTIALS and idempotency_key is not None:
            key = sealing.derive_key(caller.secret, idempotency_key, fingerprint)
        asked = Request(
            tenant=tenant,
            kind=kind,
            request=request,
            key_id=caller.key_id,
            idempotency_key=idempotency_key,
            fingerprint=fingerprint,
            sealing_key=None if key is None else sealing.public_of(key),
        )
        return Accepted(operation=self.store(asked), credentials_key=key)

    def store(self, asked: Request) -> Operation:
        """Store a request as an operation with its job, or return the operation of an earlier one."""
        for _ in range(_ATTEMPTS):
            with self._database.transaction() as connection:
                operations.hold_tenant(connection, asked.tenant)
                if asked.kind == "settle":
                    _refuse_beside(operations.fetch_under_way(connection, asked.tenant))
                # Insert first: the row locks the tenant, so the checks of `_complete` stay true.
                if (operation := operations.insert(connection, asked)) is not None:
                    return self._complete(connection, operation)
                if (before := _asked_before(connection, asked)) is not None:
                    return before
                settling = asked.kind == "settle"
                _refuse_beside(operations.fetch_under_way(connection, asked.tenant, settling=settling))
            # The other operation has ended since: try again.
        raise OperationUnderWay(asked.tenant, "that came first", asked.kind)

    def _complete(self, connection: Connection, operation: Operation) -> Operation:
        state = fetch_desired_state(connection, operation.tenant)
        request = dict(operation.request)
        topology: Topology | None
        if operation.kind == "create":
            topology = self._new(connection, operation, state)
            request["cell"] = topology.tenant.cell
        else:
            if (state is None or state.stage == "removed") and _registered(connection, operation.tenant):
                raise DeclaredInFile(operation.tenant)
            if state is None:
                raise UnknownTenant(operation.tenant)
            topology = self._existing(operation, state)
            if operation.kind == "rotate":
                request["from_generation"] = generation_in_use(state)
            if operation.kind == "resume" and state.status == "offboarding":
                # A removal that runs can't be undone; one that waits gives way.
                _refuse_beside(operations.fetch_settling(connection, operation.tenant))
        total = 0 if topology is None else sum(1 for _ in topology.objects())
        enqueue(connection, operation.id, operation.tenant)
        return operations.complete_request(connection, operation, request, total)

    def _new(self, connection: Connection, operation: Operation, state: DesiredState | None) -> Topology:
        tenant = new_tenant(operation.request, self._catalog)
        topology = admit(tenant, self._catalog)
        begun = unfinished_creation(tenant.id, state, registered=_registered(connection, tenant.id))
        asked = operation.request.get("cell") or (None if begun is None else begun.cell)
        cell = place(connection, tenant, asked, self._cells, self._catalog)
        return replace(topology, tenant=tenant.model_copy(update={"cell": cell}))

    def _existing(self, operation: Operation, state: DesiredState) -> Topology | None:
        if operation.kind == "remove":
            check_transition(state, "offboard", "remove")  # removes an offboarded tenant, or offboards it first
        elif operation.kind in get_args(Transition):
            check_transition(state, cast(Transition, operation.kind))
        if operation.kind == "change":
            wanted = operation.request
            return admit_change(state, wanted.get("modules"), wanted.get("plan"), self._catalog)[1]
        if operation.kind in ("remove", "settle"):
            return None
        must_fit = operation.kind == "resume" or (operation.kind == "rotate" and state.status != "suspended")
        return (admit if must_fit else as_sold)(tenant_of(state), self._catalog)


def _registered(connection: Connection, tenant: str) -> bool:
    """Return True if a stack has a tenant of this id, whatever declares it."""
    row = connection.execute(QUERIES["registry_status"], {"tenant": tenant}).fetchone()
    return row is not None and row["status"] != "removido"


def _refuse_beside(other: Operation | None) -> None:
    if other is not None:
        raise OperationUnderWay(other.tenant, str(other.id), other.kind)


def new_tenant(request: dict[str, Any], catalog: Catalog) -> Tenant:
    """Return the requested tenant. Raises InvalidTenant."""
    with invalid_tenant():
        return parse_tenant({key: value for key, value in request.items() if value is not None}, "request", catalog)


def _asked_before(connection: Connection, asked: Request) -> Operation | None:
    if asked.key_id is None or asked.idempotency_key is None:
        return None
    before = operations.fetch_by_idempotency_key(connection, asked.key_id, asked.idempotency_key)
    if before is not None and before.fingerprint != asked.fingerprint:
        raise KeyReused(asked.idempotency_key)
    return before
