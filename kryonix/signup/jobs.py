"""The queue of operations: procrastinate, in the service's schema."""

from __future__ import annotations

from typing import Final
from uuid import UUID

import procrastinate
from procrastinate import SyncPsycopgConnector

from kryonix.registry.rows import Connection

__all__ = ["QUEUE", "TASK", "enqueue"]

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
