"""Event streams: limits per key, one shared database poll, and an end with the key."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import httpx
import pytest

from kryonix.signup.streams import MOST_PER_KEY
from tests.integration.signup.conftest import Registry, caller
from tests.support.waiting import eventually_async


def queued(registry: Registry) -> str:
    """Insert an operation that no worker runs; return its id."""
    id = str(uuid4())
    registry.query(
        "INSERT INTO signup.operations (id, tenant, kind, request) VALUES (%s, %s, 'suspend', '{}')", id, f"t{id[:8]}"
    )
    return id


async def opened(http: httpx.AsyncClient, stack: AsyncExitStack, path: str) -> httpx.Response:
    return await stack.enter_async_context(http.stream("GET", path))


def many(base: str, key: str) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None)
    return httpx.AsyncClient(base_url=base, headers={"Authorization": f"Bearer {key}"}, timeout=120, limits=limits)


async def events(response: httpx.Response) -> list[tuple[str, dict[str, Any]]]:
    """Every event up to the end of the stream."""
    found, name = [], ""
    async for line in response.aiter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        if line.startswith("data: "):
            found.append((name, json.loads(line.removeprefix("data: "))))
    return found


def test_each_key_has_its_own_stream_limit(base: str, registry: Registry) -> None:
    path = f"/v1/operations/{queued(registry)}/events"

    async def run() -> None:
        async with many(base, registry.key("read")) as http, many(base, registry.key("read")) as other:
            async with AsyncExitStack() as stack:
                for _ in range(MOST_PER_KEY):
                    assert (await opened(http, stack, path)).status_code == 200
                refused = await http.get(path)
                assert refused.status_code == 429
                assert refused.json()["type"] == "urn:kryonix:problem:too-many-streams"
                assert str(MOST_PER_KEY) in refused.json()["detail"]
                assert (await http.get("/v1/catalog")).status_code == 200, "it may ask all the same"
                assert (await opened(other, stack, path)).status_code == 200

            async def accepted() -> bool:
                async with http.stream("GET", path) as again:
                    return again.status_code == 200

            await eventually_async(accepted, every=0.1)

    asyncio.run(run())


def test_an_unknown_operation_uses_no_stream(base: str, registry: Registry) -> None:
    with caller(base, registry.key("read")) as http:
        statuses = Counter(http.get(f"/v1/operations/{uuid4()}/events").status_code for _ in range(2 * MOST_PER_KEY))
    assert statuses == {404: 2 * MOST_PER_KEY}


@pytest.mark.parametrize("ends", ["revoked_at = now()", "expires_at = now()"])
def test_revoking_a_key_ends_only_its_streams(base: str, registry: Registry, ends: str) -> None:
    operation, first, second = queued(registry), registry.key("read"), registry.key("read")
    path = f"/v1/operations/{operation}/events"

    async def run() -> None:
        async with many(base, first) as http, many(base, second) as other, AsyncExitStack() as stack:
            doomed, kept = await opened(http, stack, path), await opened(other, stack, path)
            registry.query(f"UPDATE signup.api_keys SET {ends} WHERE id = '{first.split('_')[1]}'")
            told = await asyncio.wait_for(events(doomed), 60)
            assert [name for name, _ in told] == ["queued", "problem"]
            assert told[-1][1]["type"] == "urn:kryonix:problem:invalid-key"
            registry.query(
                "UPDATE signup.operations SET status = 'failed', revision = revision + 1, ended_at = now() "
                f"WHERE id = '{operation}'"
            )
            assert [name for name, _ in await asyncio.wait_for(events(kept), 60)] == ["queued", "failed"]

    asyncio.run(run())


def test_all_streams_share_one_database_poll(base: str, registry: Registry) -> None:
    """Counted by the database: each look reads the keys, and a policy counts the statements that do."""
    keys = [registry.key("read") for _ in range(6)]
    paths = [f"/v1/operations/{queued(registry)}/events" for _ in range(20)]

    def looks() -> int:
        (row,) = registry.query(
            "SELECT (xact_commit + xact_rollback)::bigint AS n FROM pg_stat_database WHERE datname = 'kryonix_main'"
        )
        return int(row["n"])

    async def run() -> int:
        async with AsyncExitStack() as stack:
            for key in keys:
                http = await stack.enter_async_context(many(base, key))
                for path in paths:
                    assert (await opened(http, stack, path)).status_code == 200
            await asyncio.sleep(2)  # what the opening cost has been counted
            before = looks()
            await asyncio.sleep(3)
            return looks() - before

    # 120 streams that look each 0.3 s would be 1,200 looks in 3 s.
    assert asyncio.run(run()) < 100


def test_a_stream_survives_a_briefly_frozen_database(base: str, registry: Registry) -> None:
    operation = queued(registry)

    async def run() -> list[str]:
        async with many(base, registry.key("read")) as http, AsyncExitStack() as stack:
            stream = await opened(http, stack, f"/v1/operations/{operation}/events")
            with registry.frozen():
                async with httpx.AsyncClient(base_url=base, timeout=60) as nobody:

                    async def noticed() -> bool:
                        return bool((await nobody.get("/readyz")).json()["database"] == "does not answer")

                    await eventually_async(noticed, every=0.1)
            registry.query(
                "UPDATE signup.operations SET status = 'failed', revision = revision + 1, ended_at = now() "
                f"WHERE id = '{operation}'"
            )
            return [name for name, _ in await asyncio.wait_for(events(stream), 60)]

    assert asyncio.run(run()) == ["queued", "failed"]


def test_a_stream_of_an_ended_operation_returns_its_end(base: str, registry: Registry) -> None:
    operation, key = queued(registry), registry.key("read")
    registry.query(f"UPDATE signup.operations SET status = 'failed', ended_at = now() WHERE id = '{operation}'")
    with caller(base, key) as http:
        text = http.get(f"/v1/operations/{operation}/events").text
    assert text.count("event: ") == 1
