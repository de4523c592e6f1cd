"""A suspended tenant keeps all and connects to none."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from tests.amqp import CONNECTION_REFUSED, Application, publish
from tests.harness import Project, tenant

HELD = {"portal.treinamentos.sync": 3, "unrouted": 1}


def status(outputs: dict[str, Any]) -> str:
    query = "SELECT status FROM tenants.rabbitmq_configurations WHERE cliente_id = 'pausada'"
    with psycopg.connect(outputs["registry_dsn"]) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return str(row[0])


async def fill(application: Application) -> None:
    async with application.account.channel() as channel:
        for _ in range(3):
            await publish(channel, application.name(), "portal.treinamentos.sync.low")
        await publish(channel, application.name(), "nowhere")


def test_a_suspended_tenant_connects_nowhere_until_it_is_resumed_and_loses_nothing(
    platform: Project, outputs: dict[str, Any]
) -> None:
    entry = tenant("pausada", "portal", plan="basic")
    stack = platform.beside("tenant-pausada", tenant=entry)
    stack.must("up")
    application = Application.of(stack.administered(), "pausada")
    asyncio.run(fill(application))
    assert status(outputs) == "ativo"

    stack.configure(tenant={**entry, "status": "suspended"})
    stack.must("up")
    for account in (application.account, application.admin):
        with pytest.raises(CONNECTION_REFUSED, match=r"got <Connection\.Close"):
            asyncio.run(account.connect())
    assert status(outputs) == "suspenso"
    assert len(application.queues()) == 11

    stack.configure(tenant={**entry, "status": "active"})
    stack.must("up")
    assert asyncio.run(application.comes_to_hold(HELD)) == HELD
    assert status(outputs) == "ativo"
    asyncio.run(application.empty())
