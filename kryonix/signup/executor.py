"""Run an operation, one attempt at a time, and record its progress and result."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from threading import Lock
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb

from kryonix.engines.errors import OperationDied, Refused
from kryonix.engines.events import Event, ResourceEvent
from kryonix.errors import KryonixError
from kryonix.registry.connection import Connection
from kryonix.registry.desired_states import clock
from kryonix.registry.errors import RegistryError
from kryonix.signup import operations
from kryonix.signup.database import QUERIES, Database
from kryonix.signup.operations import Kind, Operation, unknown_part
from kryonix.signup.problems import for_callers, problem_of, unknown_to_worker
from kryonix.signup.sealing import seal
from kryonix.tenants.credentials import Credentials
from kryonix.tenants.lifecycle import TenantLifecycle
from kryonix.topology.notify import Notify
from kryonix.topology.objects import KINDS
from kryonix.topology.tenants import Tenant

log = logging.getLogger(__name__)

_EVENTS: Final[Mapping[Kind, str]] = {
    "create": "tenant.created",
    "change": "tenant.changed",
    "rotate": "tenant.changed",
    "suspend": "tenant.suspended",
    "offboard": "tenant.suspended",
    "resume": "tenant.resumed",
    "remove": "tenant.removed",
}
_COUNTED: Final = frozenset(kind.resource_type for kind in KINDS.values())
MAX_ATTEMPTS: Final = 10
_ATTEMPTS_IF_UNCLEAR: Final = 3
_FIRST_S: Final = 1
_LONGEST_S: Final = 30
_REFUSED, _UNAVAILABLE = 2, 3
_PROGRESS_S: Final = 0.25
_NEWER_PAUSE: Final = timedelta(seconds=5)
_NEWER_COMES: Final = timedelta(days=1)


class RetryLater(Exception):
    """An attempt failed with a transient error. The next one starts at `moment`, by the database's clock."""

    def __init__(self, moment: datetime) -> None:
        super().__init__(f"next attempt at {moment:%H:%M:%S %Z}")
        self.moment = moment


class Executor:
    """Run operations, one per call. Thread-safe."""

    def __init__(self, database: Database, lifecycle: TenantLifecycle) -> None:
        self._database = database
        self._lifecycle = lifecycle

    def run(self, id: UUID) -> None:
        """Run one attempt; do nothing if the operation has ended. Raises RetryLater and RegistryError."""
        self._leave_to_newer_worker(id)
        with self._database.transaction() as connection:
            operation = _start(connection, id)
        if operation is None:
            return
        if operation.attempts > MAX_ATTEMPTS:
            attempts = f"{operation.attempts - 1} attempts ended without a result"
            self._failed(operation, Refused(f"{attempts}. Check the workers, then send the request again"))
            return
        log.info("operation %s (%s): attempt %d", id, operation.kind, operation.attempts)
        try:
            result, made = self._attempt(operation)
        except Exception as error:  # noqa: BLE001  the operation must end with any error recorded
            self._failed(operation, error)
            return
        sealed = None
        if made is not None and operation.sealing_key is not None:
            sealed = seal(operation.sealing_key, str(operation.id), made.shown())
        event = "tenant.removed" if result.get("removed") else _EVENTS.get(operation.kind)
        with self._database.transaction() as connection:
            ended = operations.end(connection, operation.id, "succeeded", result=result, sealed=sealed)
            if ended and event:
                self._publish(connection, operation, event, result)
        log.info("operation %s (%s) succeeded", operation.id, operation.kind)

    def _leave_to_newer_worker(self, id: UUID) -> None:
        """Leave an operation of a newer release to a newer worker. Raises RetryLater.

        This does not count as an attempt. After a day the operation fails, which frees the tenant.
        """
        with self._database.transaction() as connection:
            operation = operations.fetch(connection, id)
            unknown = unknown_part(operation)
            if operation.ended or not unknown or (now := clock(connection)) - operation.created_at > _NEWER_COMES:
                return
            operations.leave(connection, id, unknown_to_worker(unknown).as_json())
        log.warning(
            "operation %s (%s) waits for a newer worker: this one does not know %s", id, operation.kind, unknown
        )
        raise RetryLater(now + _NEWER_PAUSE)

    def _attempt(self, operation: Operation) -> tuple[dict[str, Any], Credentials | None]:
        """Return the result of an attempt, and the credentials that it has made."""
        if unknown := unknown_part(operation):
            raise Refused(f"no worker knows {unknown}. Upgrade the workers, then send the request again")
        progress = _Progress(self._database, operation)
        tenant, asked, lifecycle = operation.tenant, operation.request, self._lifecycle
        match operation.kind:
            case "create":
                return {}, lifecycle.create(Tenant.model_validate(asked), progress.handle, again=True)
            case "change":
                lifecycle.change(
                    tenant,
                    modules=asked.get("modules"),
                    plan=asked.get("plan"),
                    notify=Notify.stored(asked["notify"]) if "notify" in asked else "keep",
                    allow_delete=asked.get("allow_delete") or (),
                    on_event=progress.handle,
                )
            case "suspend":
                lifecycle.suspend(tenant, progress.handle)
            case "resume":
                lifecycle.resume(tenant, progress.handle)
            case "rotate":
                made = lifecycle.rotate(tenant, progress.handle, from_generation=asked["from_generation"])
                return {"credentials_changed": True}, made
            case "converge":
                return {"changes": lifecycle.converge(tenant, progress.handle).changes}, None
            case "offboard":
                return {"remove_after": lifecycle.offboard(tenant, progress.handle).isoformat()}, None
            case "remove":
                deleted = lifecycle.remove_now(tenant, progress.handle, accept_loss=bool(asked.get("accept_loss")))
                return {"messages_deleted": deleted}, None
            case "settle":
                lifecycle.settle(tenant, progress.handle)
                return {"removed": lifecycle.state(tenant).status == "removed"}, None
        return {}, None

    def _failed(self, operation: Operation, error: Exception) -> None:
        problem = problem_of(error).as_json()
        if operation.attempts < attempts_for(error):
            pause = pause_after(operation.attempts)
            with self._database.transaction() as connection:
                operations.postpone(connection, operation.id, problem)
                moment = clock(connection) + pause  # the machines' clocks may differ
            log.warning(
                "operation %s (%s): %s. Next attempt in %d s", operation.id, operation.kind, error, pause.seconds
            )
            raise RetryLater(moment) from error
        defect = None if isinstance(error, KryonixError) else error
        log.error("operation %s (%s) failed: %s", operation.id, operation.kind, error, exc_info=defect)
        with self._database.transaction() as connection:
            if operations.end(connection, operation.id, "failed", problem=problem):
                self._publish(connection, operation, "tenant.failed", {"problem": for_callers(problem)})

    def _publish(self, connection: Connection, operation: Operation, event: str, more: Mapping[str, Any]) -> None:
        payload = {"tenant": operation.tenant, "operation": str(operation.id), "kind": operation.kind, **more}
        values = {"event": event, "tenant": operation.tenant, "payload": Jsonb(payload)}
        connection.execute(QUERIES["insert_event"], values)


def _start(connection: Connection, id: UUID) -> Operation | None:
    """Start an attempt. Return None if the operation has ended.

    Settling gives way to a requested operation; the tenant stays due and is settled afterwards.
    """
    found = operations.fetch(connection, id)
    if found.kind == "settle":
        operations.hold_tenant(connection, found.tenant)
    operation = operations.begin(connection, id)
    if operation is None or operation.kind != "settle":
        return operation
    asked = operations.fetch_under_way(connection, operation.tenant)
    if asked is None:
        return operation
    log.info("operation %s (settle) gives way to %s (%s)", id, asked.id, asked.kind)
    operations.end(connection, id, "succeeded", result={"removed": False, "gave_way_to": str(asked.id)})
    return None


def attempts_for(error: Exception) -> int:
    """Return the total number of attempts for an operation that failed with this error.

    MAX_ATTEMPTS if a service is unavailable or the process died, a few if a run failed, 1 if the operation was refused
    or a defect ended it.
    """
    status = error.exit_status if isinstance(error, KryonixError) else _REFUSED
    if status == _UNAVAILABLE or isinstance(error, OperationDied):
        return MAX_ATTEMPTS
    return 1 if status == _REFUSED else _ATTEMPTS_IF_UNCLEAR


def pause_after(attempt: int) -> timedelta:
    """Return the pause after an attempt (the first is 1): 1 s, doubled each time, at most 30 s."""
    return timedelta(seconds=min(_FIRST_S * 2 ** (attempt - 1), _LONGEST_S))


class _Progress:
    """Count finished broker objects during a run, and store the count a few times a second."""

    def __init__(self, database: Database, operation: Operation) -> None:
        self._database = database
        self._operation = operation
        self._lock = Lock()
        self._done = 0
        self._written = time.monotonic()

    def handle(self, event: Event) -> None:
        """Handle an event of the run. Thread-safe."""
        if not isinstance(event, ResourceEvent):
            return
        with self._lock:
            self._done += event.status == "done" and event.type in _COUNTED
            if time.monotonic() - self._written < _PROGRESS_S:
                return
            self._written = time.monotonic()
            done = min(self._done, self._operation.objects_total)
        # Lost progress must not fail the run. Its end is stored later, with retries.
        with suppress(RegistryError), self._database.transaction() as connection:
            operations.note_progress(connection, self._operation.id, done, f"{event.op} {event.name}"[:200])
