"""Operations: requested changes of tenants, stored with their progress and result, and their queue of jobs.

The queue is procrastinate's, in the service's schema.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from typing import Any, Final, Literal, get_args
from uuid import UUID, uuid4

import procrastinate
from procrastinate import SyncPsycopgConnector
from psycopg.types.json import Jsonb
from pydantic import ValidationError

from kryonix.registry.connection import Connection
from kryonix.signup.database import QUERIES
from kryonix.signup.errors import UnknownOperation
from kryonix.topology.tenants import Tenant

Kind = Literal["create", "change", "suspend", "resume", "rotate", "converge", "offboard", "remove", "settle"]
Status = Literal["queued", "running", "succeeded", "failed"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
_CONVERGE: Final = "converge"
"""A field in a stored change that converges the tenant: the table's kinds are older, and older workers leave unknown
fields to newer ones."""
GIVES_CREDENTIALS: Final = ("create", "rotate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A requested operation. `key_id` is None for the service's own.

    `fingerprint` is a digest of the request: it separates a repetition from another request with the same
    idempotency key.
    """

    tenant: str
    kind: Kind
    request: dict[str, Any] = field(default_factory=dict)
    key_id: str | None = None
    idempotency_key: str | None = None
    fingerprint: bytes | None = field(default=None, repr=False)
    sealing_key: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(Request):
    """A stored operation. `revision` grows with each change; `problem` is the last attempt's."""

    id: UUID
    status: Status
    attempts: int
    objects_done: int
    objects_total: int
    doing: str
    problem: dict[str, Any] | None
    result: dict[str, Any] | None
    sealed: bytes | None = field(repr=False)
    delivered_at: datetime | None
    revision: int
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None

    @property
    def ended(self) -> bool:
        return self.status in ("succeeded", "failed")

    @property
    def credentials(self) -> Literal["pending", "ready", "delivered", "expired"] | None:
        """Return the state of the credentials that this operation creates, or None if it creates none."""
        if self.kind not in GIVES_CREDENTIALS or self.status == "failed":
            return None
        if not self.ended:
            return "pending"
        if self.sealed is not None:
            return "ready"
        return "expired" if self.delivered_at is None else "delivered"


def insert(connection: Connection, asked: Request) -> Operation | None:
    """Insert a queued operation. Return None if one is in progress, or if the idempotency key was used."""
    kind, request = asked.kind, asked.request
    if kind == "converge":
        kind, request = "change", {**request, _CONVERGE: True}
    values = {**asdict(asked), "id": uuid4(), "kind": kind, "request": Jsonb(request)}
    return _found(connection, "insert_operation", values)


def complete_request(
    connection: Connection, operation: Operation, request: dict[str, Any], objects_total: int
) -> Operation:
    """Store the completed request and the number of broker objects, once the tenant has been checked."""
    values = {"id": operation.id, "request": Jsonb(request), "objects_total": objects_total}
    return _found(connection, "complete_request", values) or operation


def fetch(connection: Connection, id: UUID) -> Operation:
    """Return an operation. Raises UnknownOperation."""
    if (operation := _found(connection, "fetch_operation", {"id": id})) is None:
        raise UnknownOperation(id)
    return operation


def fetch_changed(connection: Connection, seen: Mapping[UUID, int]) -> list[Operation]:
    """Return those operations whose revision differs from the one seen."""
    values = {"ids": list(seen), "revisions": list(seen.values())}
    return [_operation(row) for row in connection.execute(QUERIES["fetch_changed_operations"], values)]


def fetch_by_idempotency_key(connection: Connection, key_id: str, idempotency_key: str) -> Operation | None:
    """Return the caller's operation with this idempotency key, if any."""
    values = {"key_id": key_id, "idempotency_key": idempotency_key}
    return _found(connection, "fetch_by_idempotency_key", values)


def fetch_under_way(connection: Connection, tenant: str, *, settling: bool = False) -> Operation | None:
    """Return a tenant's unfinished operation, if any. `settling` includes one that settles the tenant."""
    return _found(connection, "fetch_under_way", {"tenant": tenant, "settling": settling})


def hold_tenant(connection: Connection, tenant: str) -> None:
    """Lock the tenant until this transaction ends: no operation is accepted, and no settling starts."""
    connection.execute(QUERIES["hold_tenant"], {"tenant": tenant})


def fetch_settling(connection: Connection, tenant: str) -> Operation | None:
    """Return the running operation that settles the tenant, if any."""
    return _found(connection, "fetch_settling", {"tenant": tenant})


def fetch_last(connection: Connection, tenants: Collection[str]) -> dict[str, Operation]:
    """Return the newest operation of each tenant: the one in progress, if there is one."""
    rows = connection.execute(QUERIES["fetch_last_operations"], {"tenants": list(tenants)})
    return {row["tenant"]: _operation(row) for row in rows}


def fetch_newest(connection: Connection, tenant: str, limit: int) -> list[Operation]:
    """Return a tenant's newest operations, the newest first."""
    rows = connection.execute(QUERIES["fetch_operations"], {"tenant": tenant, "limit": limit})
    return [_operation(row) for row in rows]


def begin(connection: Connection, id: UUID) -> Operation | None:
    """Start an attempt. Return None if the operation has ended."""
    return _found(connection, "begin_operation", {"id": id})


def postpone(connection: Connection, id: UUID, problem: dict[str, Any]) -> None:
    """Queue a failed operation for its next attempt."""
    connection.execute(QUERIES["postpone_operation"], {"id": id, "problem": Jsonb(problem)})


def leave(connection: Connection, id: UUID, problem: dict[str, Any]) -> None:
    """Leave an operation to another worker, with the reason."""
    connection.execute(QUERIES["leave_operation"], {"id": id, "problem": Jsonb(problem)})


def end(
    connection: Connection,
    id: UUID,
    status: Literal["succeeded", "failed"],
    *,
    problem: dict[str, Any] | None = None,
    result: dict[str, Any] | None = None,
    sealed: bytes | None = None,
) -> bool:
    """End an operation. Return False if another attempt has ended it."""
    values = {"id": id, "status": status, "problem": _json(problem), "result": _json(result), "sealed": sealed}
    return connection.execute(QUERIES["end_operation"], values).fetchone() is not None


def _json(value: dict[str, Any] | None) -> Jsonb | None:
    return None if value is None else Jsonb(value)


def _found(connection: Connection, query: str, values: Mapping[str, Any]) -> Operation | None:
    row = connection.execute(QUERIES[query], values).fetchone()
    return None if row is None else _operation(row)


def _operation(row: Mapping[str, Any]) -> Operation:
    # Ignore columns of a newer release.
    found = Operation(**{each.name: row[each.name] for each in fields(Operation)})
    return replace(found, kind="converge") if found.kind == "change" and _CONVERGE in found.request else found


def deliver(connection: Connection, id: UUID) -> bool:
    """Mark the credentials as delivered and delete them. Return False if another request was faster."""
    return connection.execute(QUERIES["deliver_credentials"], {"id": id}).fetchone() is not None


def note_progress(connection: Connection, id: UUID, done: int, doing: str) -> None:
    """Store the number of finished broker objects and the current step."""
    connection.execute(QUERIES["note_progress"], {"id": id, "done": done, "doing": doing})


_REQUEST_FIELDS: Final[Mapping[Kind, frozenset[str]]] = {
    "create": frozenset(Tenant.model_fields),
    "change": frozenset({"modules", "plan", "notify", "allow_delete"}),
    "rotate": frozenset({"from_generation"}),
    "converge": frozenset({_CONVERGE}),
    "remove": frozenset({"accept_loss"}),
}


def unknown_part(operation: Operation) -> str:
    """Describe the part of an operation that this release does not know. Empty if it knows all of it."""
    if operation.kind not in KINDS:
        return f"operations of the kind {operation.kind!r}"
    if more := sorted(set(operation.request) - _REQUEST_FIELDS.get(operation.kind, frozenset())):
        return f"{', '.join(map(repr, more))} in a request to {operation.kind}"
    if operation.kind == "create":
        try:
            Tenant.model_validate(operation.request)
        except ValidationError as error:
            return f"this value of {'.'.join(map(str, error.errors()[0]['loc']))!r} in a request to create"
    return ""


QUEUE: Final = "operations"
TASK: Final = "kryonix.signup.perform"

# Used only within the caller's transaction, so it opens no connection.
_deferring = procrastinate.App(connector=SyncPsycopgConnector())


def enqueue(connection: Connection, operation_id: UUID, tenant: str) -> None:
    """Enqueue an operation when this transaction commits. A tenant's jobs run one at a time."""
    job = _deferring.configure_task(
        TASK, queue=QUEUE, lock=f"tenant/{tenant}", queueing_lock=str(operation_id), connection=connection
    )
    job.defer(operation_id=str(operation_id))
