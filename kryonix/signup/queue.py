"""The job queue of operations (procrastinate, in the service's schema), and its retries."""

from __future__ import annotations

from datetime import timedelta
from typing import Final
from uuid import UUID

import procrastinate
from procrastinate import SyncPsycopgConnector

from kryonix.engines.errors import OperationDied
from kryonix.errors import KryonixError
from kryonix.registry.connection import Connection

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


MAX_ATTEMPTS: Final = 10
_ATTEMPTS_IF_UNCLEAR: Final = 3
_FIRST_S: Final = 1
_LONGEST_S: Final = 30
_REFUSED, _UNAVAILABLE = 2, 3


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
