"""A suspended tenant keeps its objects and cannot connect."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from tests.support.amqp import CONNECTION_REFUSED, Account, Application, publish
from tests.support.project import Project, tenant

QUEUE = "cliente_pausada.portal.treinamentos.sync"
VHOST = "/cliente_pausada"
MESSAGE = {"properties": {}, "payload": "x", "payload_encoding": "string"}
GET = {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}
ATTEMPTS: dict[str, tuple[str, tuple[str, ...], Any]] = {
    "whoami": ("GET", ("whoami",), None),
    "overview": ("GET", ("overview",), None),
    "list": ("GET", ("queues", VHOST), None),
    "get": ("POST", ("queues", VHOST, QUEUE, "get"), GET),
    "publish": (
        "POST",
        ("exchanges", VHOST, "cliente_pausada", "publish"),
        {**MESSAGE, "routing_key": "portal.progresso.atualizar.low"},
    ),
    "bind": ("POST", ("bindings", VHOST, "e", "cliente_pausada", "q", QUEUE), {"routing_key": "#"}),
    "purge": ("DELETE", ("queues", VHOST, "cliente_pausada.portal.progresso.atualizar", "contents"), None),
}
"""What is tried by HTTP."""
FIGURES = {"whoami", "overview", "list"}
HELD = {"portal.treinamentos.sync": 3, "unrouted": 1}


def status(outputs: dict[str, Any]) -> str:
    query = "SELECT status FROM tenants.rabbitmq_configurations WHERE cliente_id = 'pausada'"
    with psycopg.connect(outputs["registry_dsn"]) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return str(row[0])


def refused_by_http(account: Account) -> set[str]:
    """The attempts that the broker refuses for want of rights."""
    answers = {name: account.call(method, *parts, json=body) for name, (method, parts, body) in ATTEMPTS.items()}
    return {name for name, answer in answers.items() if answer.status_code in (401, 403)}


async def fill(application: Application) -> None:
    async with application.account.channel() as channel:
        for _ in range(3):
            await publish(channel, application.name(), "portal.treinamentos.sync.low")
        await publish(channel, application.name(), "nowhere")


def test_a_suspended_tenant_cannot_connect_until_resumed(platform: Project, outputs: dict[str, Any]) -> None:
    entry = tenant("pausada", "portal", plan="basic")
    stack = platform.beside("tenant-pausada", tenant=entry)
    stack.must("up")
    application = Application.of(stack.administered(), "pausada")
    asyncio.run(fill(application))
    assert status(outputs) == "ativo"

    stack.configure(tenant={**entry, "status": "suspended"})
    suspended = stack.must("up")
    assert {step["op"] for step in suspended["steps"]} <= {"update", "read"}
    assert refused_by_http(application.account) == refused_by_http(application.stats) == set(ATTEMPTS)
    for account in (application.account, application.admin):
        with pytest.raises(CONNECTION_REFUSED, match=r"got <Connection\.Close"):
            asyncio.run(account.connect())
    assert status(outputs) == "suspenso"
    assert len(application.queues()) == 11

    stack.configure(tenant={**entry, "status": "active"})
    stack.must("up")
    assert asyncio.run(application.comes_to_hold(HELD)) == HELD
    assert refused_by_http(application.account) == set(ATTEMPTS)
    assert refused_by_http(application.stats) == set(ATTEMPTS) - FIGURES
    assert status(outputs) == "ativo"
    asyncio.run(application.empty())
