"""Handle a message once, even if it is delivered twice: remember its id, in memory or in PostgreSQL."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final, Literal, Protocol, runtime_checkable

from kryonix.messaging.checks import checked_count
from kryonix.messaging.postgres import PostgresTable

Claim = Literal["mine", "done", "busy"]
"""`mine`: handle the message now. `done`: it was handled before. `busy`: another consumer is handling it."""

_SIZE: Final = 100_000
_MAX_SIZE: Final = 1_000_000_000


@runtime_checkable
class IdempotencyStore(Protocol):
    """Remember handled messages. `key` is queue and message id.

    A claim neither done nor released (its consumer died) ends after `lease` seconds. `claim` raises UnicodeError for a
    key that it can never store: the message is then handled without it. Any other error gives the message back.
    """

    async def claim(self, key: str, lease: float) -> Claim: ...

    async def done(self, key: str) -> None: ...

    async def release(self, key: str) -> None: ...

    async def close(self) -> None: ...


class MemoryIdempotency:
    """Remember the last `size` messages of this process. A restart forgets them."""

    def __init__(self, size: int = _SIZE) -> None:
        self._size = checked_count("size", size, _MAX_SIZE)
        self._until: OrderedDict[str, float | None] = OrderedDict()
        """The end of a claim's lease; None: done."""

    async def claim(self, key: str, lease: float) -> Claim:
        now = time.monotonic()
        if key in self._until:
            until = self._until[key]
            if until is None:
                return "done"
            if until > now:
                return "busy"
        self._until[key] = now + lease
        self._until.move_to_end(key)
        if len(self._until) > self._size:
            self._until.popitem(last=False)
        return "mine"

    async def done(self, key: str) -> None:
        self._until[key] = None

    async def release(self, key: str) -> None:
        self._until.pop(key, None)

    async def close(self) -> None: ...


class PostgresIdempotency(PostgresTable):
    """Remember in a table shared by all consumers, created at first use.

    Delete old rows yourself: `DELETE FROM kryonix_handled WHERE at < now() - interval '7 days'`.
    """

    def __init__(self, dsn: str, table: str = "kryonix_handled") -> None:
        super().__init__(dsn, table, "key text PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), until timestamptz")

    async def claim(self, key: str, lease: float) -> Claim:
        """Claim with one statement: of two consumers exactly one gets a row back."""
        won = await self._execute(
            "INSERT INTO {table} AS t (key, until) VALUES (%(key)s, now() + %(lease)s * interval '1 second') "
            "ON CONFLICT (key) DO UPDATE SET until = excluded.until, at = now() WHERE t.until <= now() RETURNING true",
            {"key": key, "lease": lease},
        )
        if won is not None:
            return "mine"
        row = await self._execute("SELECT until IS NULL FROM {table} WHERE key = %(key)s", {"key": key})
        return "done" if row is not None and row[0] else "busy"

    async def done(self, key: str) -> None:
        await self._execute("UPDATE {table} SET until = NULL, at = now() WHERE key = %(key)s", {"key": key})

    async def release(self, key: str) -> None:
        await self._execute("DELETE FROM {table} WHERE key = %(key)s AND until IS NOT NULL", {"key": key})
