"""Repair jobs of dead workers and operations without a job, settle due tenants, and delete old rows."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

from procrastinate.exceptions import ConnectorException

from kryonix.registry.errors import RegistryError
from kryonix.signup.database import QUERIES, Database
from kryonix.signup.errors import OperationUnderWay
from kryonix.signup.intake import Intake
from kryonix.signup.operations import Request, enqueue
from kryonix.tenants.lifecycle import TenantLifecycle

log = logging.getLogger(__name__)

_PAUSE_S: Final = 3
_DUE_S: Final = 10
_UNFETCHED_S: Final = 24 * 60 * 60
"""How long sealed credentials wait to be fetched."""
_FORGET_EVERY_S: Final = 60 * 60
_PORTION: Final = 5000


class Housekeeper:
    """Maintain the service's rows. Several may run at a time."""

    def __init__(self, database: Database, lifecycle: TenantLifecycle, intake: Intake, *, keep: timedelta) -> None:
        """`keep` is the retention of ended operations, published events and the audit."""
        self._database = database
        self._lifecycle = lifecycle
        self._intake = intake
        self._keep = keep
        self._looked = self._forgot = -math.inf

    async def run(self, give_back_stalled: Callable[[], Awaitable[int]]) -> None:
        """Maintain them until cancelled. A round ends early if the database is away."""
        while True:
            try:
                if count := await give_back_stalled():
                    log.warning("%d job(s) of dead workers are queued again", count)
                await asyncio.to_thread(self._rows)
            except RegistryError as error:
                log.warning("housekeeping waits: %s", error)
            except ConnectorException as error:
                log.warning("housekeeping waits: the database does not answer (%s)", type(error).__name__)
            except Exception:  # a failed round must not be the last
                log.exception("a round of housekeeping failed")
            await asyncio.sleep(_PAUSE_S)

    def _rows(self) -> None:
        with self._database.transaction() as connection:
            for row in connection.execute(QUERIES["fetch_without_job"]).fetchall():
                log.warning("operation %s has lost its job and is queued again", row["id"])
                enqueue(connection, row["id"], row["tenant"])
            connection.execute(QUERIES["forget_credentials"], {"seconds": _UNFETCHED_S})
        if time.monotonic() - self._looked > _DUE_S:
            self._looked = time.monotonic()
            self._settle()
        if time.monotonic() - self._forgot > _FORGET_EVERY_S:
            self._forgot = time.monotonic()
            for query in ("forget_operations", "forget_events", "forget_audit"):
                self._forget(query)

    def _forget(self, query: str) -> None:
        """Delete old rows in portions, each its own transaction: a statement has a time limit."""
        values = {"seconds": self._keep.total_seconds(), "limit": _PORTION}
        count = _PORTION
        while count == _PORTION:
            with self._database.transaction() as connection:
                (row,) = connection.execute(QUERIES[query], values)
            count = int(row["count"])
            if count:
                log.info("%s: %d row(s) older than %d days", query, count, self._keep.days)

    def _settle(self) -> None:
        with self._database.transaction() as connection:
            in_vain = {row["tenant"] for row in connection.execute(QUERIES["settled_in_vain"])}
        for tenant in self._lifecycle.due():
            if tenant in in_vain:
                continue
            try:
                operation = self._intake.store(Request(tenant=tenant, kind="settle"))
            except OperationUnderWay:
                continue  # it stays due
            log.info("operation %s settles a due tenant", operation.id)
