from __future__ import annotations

import asyncio

import pytest

from kryonix.messaging import ConfigurationError, MemoryIdempotency, PostgresIdempotency

pytestmark = pytest.mark.anyio


async def test_a_key_is_claimed_once_and_remembered_when_done() -> None:
    store = MemoryIdempotency()
    assert await store.claim("a", 10) == "mine"
    assert await store.claim("a", 10) == "busy"
    await store.done("a")
    assert await store.claim("a", 10) == "done"


async def test_a_released_or_expired_claim_is_free() -> None:
    store = MemoryIdempotency()
    await store.claim("a", 10)
    await store.release("a")
    assert await store.claim("a", 0.01) == "mine"
    await asyncio.sleep(0.02)
    assert await store.claim("a", 10) == "mine"


async def test_the_memory_is_bounded_and_forgets_the_oldest() -> None:
    store = MemoryIdempotency(size=2)
    for key in ("a", "b", "c"):
        await store.claim(key, 10)
        await store.done(key)
    assert await store.claim("c", 10) == "done"
    assert await store.claim("a", 10) == "mine"


@pytest.mark.parametrize("table", ["x; DROP TABLE y", "", "A", "a.b.c", 'a"b'])
def test_an_sql_injection_in_a_table_name_is_refused(table: str) -> None:
    with pytest.raises(ConfigurationError, match="not a valid table name"):
        PostgresIdempotency("postgresql://x", table)
