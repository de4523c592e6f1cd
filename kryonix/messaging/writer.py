"""Write records in the background, in batches, from a bounded queue. It never delays what is recorded."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Final, Generic, Protocol, TypeVar

log = logging.getLogger("kryonix.messaging")

Record = TypeVar("Record")
Record_contra = TypeVar("Record_contra", contravariant=True)

_CAPACITY: Final = 10_000
_BATCH: Final = 500
_GOODBYE: Final = 5.0


class Sink(Protocol[Record_contra]):
    """A destination for records."""

    async def write(self, records: Sequence[Record_contra], /) -> None: ...

    async def close(self) -> None: ...


class Writer(Generic[Record]):
    """A bounded queue in front of a sink. `what` names the records in the log.

    `gather` is the time in seconds that a batch may wait for more records.
    """

    def __init__(self, sink: Sink[Record], what: str, *, gather: float = 0.0, capacity: int = _CAPACITY) -> None:
        self._sink, self._what, self._gather, self._capacity = sink, what, gather, capacity
        self._records: deque[Record] = deque()
        self._wake = asyncio.Event()
        self._ending = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None
        self.dropped = 0
        """Number of records lost: the queue was full, or the sink failed."""

    def note(self, record: Record) -> None:
        """Take a record without waiting."""
        if self._ending.is_set() or len(self._records) >= self._capacity:
            self._drop(1, "the client was closed" if self._ending.is_set() else "the sink is too slow")
            return
        self._records.append(record)
        self._wake.set()
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write(), name=f"kryonix {self._what}")

    def _drop(self, count: int, why: str) -> None:
        if not self.dropped:
            log.warning("%s are dropped: %s", self._what, why)
        self.dropped += count

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._linger()
            while batch := list(islice(self._records, _BATCH)):
                try:
                    await self._sink.write(batch)
                except Exception as error:  # noqa: BLE001 - a sink may raise anything; sends continue
                    self._drop(len(batch), f"{type(error).__name__}: {error}")
                    await asyncio.sleep(0.1)
                # Not earlier: close() counts the rest as lost.
                for _ in batch:
                    self._records.popleft()

    async def _linger(self) -> None:
        if self._gather:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._gather):
                    await self._ending.wait()

    async def close(self) -> None:
        """Write the remaining records, within a few seconds."""
        self._ending.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE):
                while self._records:
                    await asyncio.sleep(0.01)
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing], timeout=_GOODBYE)
        if self._records:
            self._drop(len(self._records), "the client was closed")
        try:
            async with asyncio.timeout(_GOODBYE):
                await self._sink.close()
        except Exception:
            log.exception("cannot close the sink of %s", self._what)
