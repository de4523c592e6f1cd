"""Event streams of operations. One query serves all open streams of a process."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from starlette.concurrency import run_in_threadpool

from kryonix.registry.errors import RegistryError
from kryonix.signup import operations
from kryonix.signup.database import Database
from kryonix.signup.errors import InvalidKey, TooManyStreams
from kryonix.signup.keys import fetch_valid
from kryonix.signup.operations import Operation

MOST_PER_KEY: Final = 50
"""Maximum number of open streams per API key and process."""

_LOOK_S: Final = 0.3
_ALIVE_S: Final = 15


@dataclass(eq=False, slots=True)
class _Follower:
    """One stream: its operation's newest state, and whether its key is still valid."""

    key_id: str
    operation: Operation
    let_in: bool = True
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Streams:
    """The streams of one process. Everything runs in the event loop except the one shared query."""

    def __init__(self, database: Database, *, most_per_key: int = MOST_PER_KEY, pause_s: float = _LOOK_S) -> None:
        self._database = database
        self._most = most_per_key
        self._pause_s = pause_s
        self._open: Counter[str] = Counter()
        self._followers: set[_Follower] = set()
        self._looking: asyncio.Task[None] | None = None

    @contextmanager
    def place(self, key_id: str) -> Iterator[None]:
        """Reserve one of a key's streams. Raises TooManyStreams."""
        if self._open[key_id] >= self._most:
            raise TooManyStreams(self._most)
        self._open[key_id] += 1
        try:
            yield
        finally:
            self._open[key_id] -= 1
            if not self._open[key_id]:
                del self._open[key_id]

    async def follow(self, operation: Operation, key_id: str) -> AsyncGenerator[Operation | None, None]:
        """Yield the operation now and after each change, until it has ended, and None every 15 s without a change.

        Raises InvalidKey once the key is revoked or expired.
        """
        follower = _Follower(key_id, operation)
        self._followers.add(follower)
        try:
            yield operation
            while not operation.ended:
                if self._looking is None or self._looking.done():
                    self._looking = asyncio.create_task(self._look())
                try:
                    await asyncio.wait_for(follower.news.wait(), _ALIVE_S)
                except TimeoutError:
                    yield None
                    continue
                follower.news.clear()
                if not follower.let_in:
                    raise InvalidKey
                operation = follower.operation
                yield operation
        finally:
            self._followers.discard(follower)

    async def _look(self) -> None:
        """Poll the followed operations as long as there are any."""
        while self._followers:
            await asyncio.sleep(self._pause_s)
            followers = tuple(self._followers)
            if not followers:
                return
            try:
                changed, valid = await run_in_threadpool(self._ask, followers)
            except RegistryError:
                continue  # keep the streams open until the database is back
            for follower in followers:
                newer = changed.get(follower.operation.id, follower.operation)
                gone = follower.key_id not in valid
                if newer.revision > follower.operation.revision or gone:
                    follower.operation, follower.let_in = newer, not gone
                    follower.news.set()

    def _ask(self, followers: Collection[_Follower]) -> tuple[dict[UUID, Operation], set[str]]:
        oldest: dict[UUID, int] = {}
        for each in followers:
            known = each.operation
            oldest[known.id] = min(oldest.get(known.id, known.revision), known.revision)
        with self._database.transaction() as connection:
            valid = fetch_valid(connection, {each.key_id for each in followers})
            return {operation.id: operation for operation in operations.fetch_changed(connection, oldest)}, valid
