"""The job queue of operations (procrastinate, in the service's schema), and its retries."""

from __future__ import annotations

from datetime import timedelta
from typing import Final
from uuid import UUID

import procrastinate
from procrastinate import SyncPsycopgConnector

from kryonix.engines.errors import OperationDied
from kryonix.registry.rows import Connection

__all__ = ["MOST_ATTEMPTS", "QUEUE", "TASK", "attempts_for", "enqueue", "pause_after"]


QUEUE: Final = "operations"
TASK: Final = "kryonix.signup.perform"

# Only ever used on a transaction of the caller's, so it has no connection of its own.
_deferring = procrastinate.App(connector=SyncPsycopgConnector())


def enqueue(connection: Connection, operation_id: UUID, tenant: str) -> None:
    """Have an operation carried out once this transaction is committed. A tenant's jobs never run two at a time."""
    job = _deferring.configure_task(
        TASK, queue=QUEUE, lock=f"tenant/{tenant}", queueing_lock=str(operation_id), connection=connection
    )
    job.defer(operation_id=str(operation_id))


MOST_ATTEMPTS: Final = 10
_WHERE_UNCLEAR: Final = 3
_FIRST_S: Final = 1
_LONGEST_S: Final = 30
_REFUSED, _AWAY = 2, 3


def attempts_for(error: Exception) -> int:
    """How many attempts an operation has altogether that has failed with this error.

    A service that is away may be back, and a process that died is begun again. What a run failed with may be over soon,
    or never be: that is told after a few. A refusal stays one, and so does what is not ours: a defect.
    """
    status = getattr(error, "exit_status", _REFUSED)
    if status == _AWAY or isinstance(error, OperationDied):
        return MOST_ATTEMPTS
    return 1 if status == _REFUSED else _WHERE_UNCLEAR


def pause_after(attempt: int) -> timedelta:
    """How long to wait after an attempt, the first of which is 1: each time twice as long, up to a bound."""
    return timedelta(seconds=min(_FIRST_S * 2 ** (attempt - 1), _LONGEST_S))
