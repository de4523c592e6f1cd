"""Carrying an operation out, attempt by attempt, and telling how it goes and how it ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from threading import Lock
from typing import Any, Final
from uuid import UUID

from kryonix.engines.errors import LifecycleError, WouldLoseMessages
from kryonix.engines.events import Event, ResourceEvent
from kryonix.registry.errors import RegistryError
from kryonix.registry.rows import Connection
from kryonix.signup import operations
from kryonix.signup.database import Database
from kryonix.signup.events import put_event
from kryonix.signup.operations import Kind, Operation
from kryonix.signup.problems import for_callers, problem_of, unknown_to_worker
from kryonix.signup.queue import MOST_ATTEMPTS, attempts_for, pause_after
from kryonix.signup.sealing import seal
from kryonix.signup.vocabulary import what_is_unknown
from kryonix.tenants.credentials import Credentials
from kryonix.tenants.lifecycle import TenantLifecycle
from kryonix.topology.objects import KINDS
from kryonix.topology.tenants import Tenant

__all__ = ["Again", "Performer"]

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
_PROGRESS_S: Final = 0.25
_COUNTS_AGE_S: Final = 8
"""How old the broker's counts may be, with a margin: a quorum queue reports its own every 5 s."""
_NEWER_PAUSE: Final = timedelta(seconds=5)
_NEWER_COMES: Final = timedelta(days=1)


class Again(Exception):
    """An attempt has failed by what may be over soon; the operation waits for the next one, by the database's clock."""

    def __init__(self, moment: datetime) -> None:
        super().__init__(f"again at {moment:%H:%M:%S %Z}")
        self.moment = moment


class _GivenUp(LifecycleError):
    """Attempts have begun, and none has ended: their processes were killed, each time."""

    exit_status = 2

    def __init__(self, attempts: int) -> None:
        super().__init__(f"{attempts} attempts were cut off before a result. Look at the workers, and ask again")


class _NotUnderstood(LifecycleError):
    """No worker has come that knows what is asked for."""

    exit_status = 2

    def __init__(self, unknown: str) -> None:
        super().__init__(f"no worker knows {unknown}. Upgrade the workers, and ask again")


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What an operation came to. The event that is told of it is the kind's, or none for ''."""

    result: dict[str, Any]
    event: str
    credentials: Credentials | None = None


class Performer:
    """Carries operations out, one per call; calls may come from several threads."""

    def __init__(self, database: Database, lifecycle: TenantLifecycle) -> None:
        self._database = database
        self._lifecycle = lifecycle

    def perform(self, id: UUID) -> None:
        """One attempt. Nothing where the operation has ended already. Raises Again, or what the database raises."""
        self._leave_what_is_newer(id)
        with self._database.transaction() as connection:
            operation = _begin(connection, id)
        if operation is None:
            return
        if operation.attempts > MOST_ATTEMPTS:
            self._failed(operation, _GivenUp(operation.attempts - 1))
            return
        log.info("operation %s (%s) begins, attempt %d", id, operation.kind, operation.attempts)
        try:
            outcome = self._act(operation)
        except Exception as error:  # noqa: BLE001  whatever it is, the operation has to say how it ended
            self._failed(operation, error)
        else:
            self._succeeded(operation, outcome)

    def _leave_what_is_newer(self, id: UUID) -> None:
        """Leave an operation that asks for what a later release has to a worker of that release. Raises Again.

        It is no attempt. After a day the operation fails: nobody comes any more, and the tenant is to be free again.
        """
        with self._database.transaction() as connection:
            operation = operations.fetch(connection, id)
            unknown = what_is_unknown(operation)
            if operation.ended or not unknown or operations.waits_for_long(connection, id, _NEWER_COMES):
                return
            operations.leave(connection, id, unknown_to_worker(unknown).as_json())
            moment = operations.moment_after(connection, _NEWER_PAUSE)
        log.warning(
            "operation %s (%s) is left for a newer worker: this one does not know %s", id, operation.kind, unknown
        )
        raise Again(moment)

    def _act(self, operation: Operation) -> _Outcome:
        if unknown := what_is_unknown(operation):
            raise _NotUnderstood(unknown)
        progress = _Progress(self._database, operation)
        tenant, asked, lifecycle = operation.tenant, operation.request, self._lifecycle
        event = _EVENTS.get(operation.kind, "")
        match operation.kind:
            case "create":
                made = lifecycle.create(Tenant.model_validate(asked), progress.take, again=True)
                return _Outcome({}, event, made)
            case "change":
                lifecycle.change(
                    tenant,
                    modules=asked.get("modules"),
                    plan=asked.get("plan"),
                    allow_delete=asked.get("allow_delete") or (),
                    on_event=progress.take,
                )
            case "suspend":
                lifecycle.suspend(tenant, progress.take)
            case "resume":
                lifecycle.resume(tenant, progress.take)
            case "rotate":
                made = lifecycle.rotate(tenant, progress.take, from_generation=asked["from_generation"])
                return _Outcome({"credentials_changed": True}, event, made)
            case "offboard":
                until = lifecycle.offboard(tenant, progress.take)
                return _Outcome({"remove_after": until.isoformat()}, event)
            case "remove":
                deleted = self._remove(tenant, progress, accept_loss=bool(asked.get("accept_loss")))
                return _Outcome({"messages_deleted": deleted}, event)
            case "settle":
                lifecycle.settle(tenant, progress.take)
                removed = lifecycle.state(tenant).status == "removed"
                return _Outcome({"removed": removed}, "tenant.removed" if removed else "")
        return _Outcome({}, event)

    def _remove(self, tenant: str, progress: _Progress, *, accept_loss: bool) -> int:
        """Remove a tenant now, and return how many messages went with it.

        Raises WouldLoseMessages before anything has changed. What comes between the two looks is refused too: the
        tenant is then offboarded, and `resume` undoes it.
        """
        lifecycle, held = self._lifecycle, {}
        if lifecycle.state(tenant).status != "removed":
            held = _held(lifecycle, tenant, accept_loss=accept_loss)
            lifecycle.offboard(tenant, progress.take)
            if not accept_loss:
                time.sleep(_COUNTS_AGE_S)
            held = _held(lifecycle, tenant, accept_loss=accept_loss)
        lifecycle.remove(tenant, progress.take, force=True)
        return sum(held.values())

    def _succeeded(self, operation: Operation, outcome: _Outcome) -> None:
        sealed = None
        if outcome.credentials is not None and operation.sealing_key is not None:
            sealed = seal(operation.sealing_key, str(operation.id), asdict(outcome.credentials))
        with self._database.transaction() as connection:
            ended = operations.end(connection, operation.id, "succeeded", result=outcome.result, sealed=sealed)
            if ended and outcome.event:
                self._tell(connection, operation, outcome.event, outcome.result)
        log.info("operation %s (%s) succeeded", operation.id, operation.kind)

    def _failed(self, operation: Operation, error: Exception) -> None:
        problem = problem_of(error).as_json()
        if operation.attempts < attempts_for(error):
            pause = pause_after(operation.attempts)
            with self._database.transaction() as connection:
                operations.postpone(connection, operation.id, problem)
                moment = operations.moment_after(connection, pause)
            log.warning(
                "operation %s (%s): %s. Again in %d s", operation.id, operation.kind, error, pause.total_seconds()
            )
            raise Again(moment) from error
        ours = hasattr(error, "exit_status")
        log.error("operation %s (%s) failed: %s", operation.id, operation.kind, error, exc_info=None if ours else error)
        with self._database.transaction() as connection:
            if operations.end(connection, operation.id, "failed", problem=problem):
                self._tell(connection, operation, "tenant.failed", {"problem": for_callers(problem)})

    def _tell(self, connection: Connection, operation: Operation, event: str, more: Mapping[str, Any]) -> None:
        told = {"tenant": operation.tenant, "operation": str(operation.id), "kind": operation.kind, **more}
        put_event(connection, event, operation.tenant, told)


def _held(lifecycle: TenantLifecycle, tenant: str, *, accept_loss: bool) -> dict[str, int]:
    held = lifecycle.messages(tenant)
    if held and not accept_loss:
        told = f"{sum(held.values()):,} message(s) in {len(held)} queue(s) of the tenant {tenant!r} would be deleted"
        remedy = "Have them consumed, ask for the removal after the grace, or accept the loss with `accept_loss=true`"
        raise WouldLoseMessages(f"{told}. {remedy}", held)
    return held


def _begin(connection: Connection, id: UUID) -> Operation | None:
    """An attempt begins; None where the operation has ended.

    A settling ends where something was asked for meanwhile: what is due stays due, and is settled after it.
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


class _Progress:
    """Counts broker objects as a run makes them, and writes the count a few times a second."""

    def __init__(self, database: Database, operation: Operation) -> None:
        self._database = database
        self._operation = operation
        self._lock = Lock()
        self._done = 0
        self._written = time.monotonic()

    def take(self, event: Event) -> None:
        """One event of the run; called from any thread."""
        if not isinstance(event, ResourceEvent):
            return
        with self._lock:
            self._done += event.status == "done" and event.type in _COUNTED
            if time.monotonic() - self._written < _PROGRESS_S:
                return
            self._written = time.monotonic()
            done = min(self._done, self._operation.objects_total)
        # Progress that can't be written is no reason to fail: the end of the run is told again and again until it is.
        with suppress(RegistryError), self._database.transaction() as connection:
            operations.note_progress(connection, self._operation.id, done, f"{event.op} {event.name}"[:200])
