"""What has to be looked after: jobs of dead workers, operations without a job, what is due, what is to be forgotten."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Final

from kryonix.registry.errors import RegistryError
from kryonix.signup.database import Database
from kryonix.signup.errors import OperationUnderWay
from kryonix.signup.intake import Intake
from kryonix.signup.queue import enqueue
from kryonix.signup.sql import QUERIES
from kryonix.tenants.lifecycle import TenantLifecycle

__all__ = ["Keeper"]

log = logging.getLogger(__name__)

_DUE_S: Final = 10
_UNFETCHED_S: Final = 24 * 60 * 60
"""How long credentials wait for the caller that they are sealed for."""
_FORGET_EVERY_S: Final = 60 * 60
_PORTION: Final = 5000


class Keeper:
    """Looks after the service's rows. Several may run."""

    def __init__(self, database: Database, lifecycle: TenantLifecycle, intake: Intake, *, keep: timedelta) -> None:
        """`keep` is how long it is known what was asked, told and audited."""
        self._database = database
        self._lifecycle = lifecycle
        self._intake = intake
        self._keep = keep
        self._looked = self._forgot = -math.inf

    async def keep(self, give_back_stalled: Callable[[], Awaitable[int]]) -> None:
        """One round. A database that is away ends it; there is another."""
        try:
            if count := await give_back_stalled():
                log.warning("%d job(s) that nobody works at are taken up again", count)
            await asyncio.to_thread(self._rows)
        except RegistryError as error:
            log.warning("keeping waits: %s", error)

    def _rows(self) -> None:
        with self._database.transaction() as connection:
            for row in connection.execute(QUERIES["fetch_without_job"]).fetchall():
                log.warning("operation %s has no job any more, and is given a new one", row["id"])
                enqueue(connection, row["id"], row["tenant"])
            connection.execute(QUERIES["forget_credentials"], {"seconds": _UNFETCHED_S})
        if time.monotonic() - self._looked > _DUE_S:
            self._looked = time.monotonic()
            self._settle()
        if time.monotonic() - self._forgot > _FORGET_EVERY_S:
            self._forgot = time.monotonic()
            self._forget()

    def _forget(self) -> None:
        """Operations that have ended, with their idempotency keys; events that were told; and the audit."""
        for query in ("forget_operations", "forget_events", "forget_audit"):
            count = sum(self._portions(query))
            if count:
                log.info("%s: %d row(s) of more than %d days ago", query, count, self._keep.days)

    def _portions(self, query: str) -> Iterator[int]:
        """Forget, so many rows in a transaction, until there are none; a statement has only so much time."""
        values = {"seconds": self._keep.total_seconds(), "limit": _PORTION}
        count = _PORTION
        while count == _PORTION:
            with self._database.transaction() as connection:
                done = connection.execute(QUERIES[query], values)
                row = done.fetchone() if done.description else None
            count = done.rowcount if row is None else int(row["count"])
            yield count

    def _settle(self) -> None:
        with self._database.transaction() as connection:
            in_vain = {row["tenant"] for row in connection.execute(QUERIES["settled_in_vain"])}
        for tenant in self._lifecycle.due():
            if tenant in in_vain:
                continue
            try:
                operation = self._intake.take_own("settle", tenant)
            except OperationUnderWay:
                continue  # what is due stays so
            log.info("operation %s settles what is due", operation.id)
