"""Registry rows of a tenant; their hash restores the tenant's user."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest
from aio_pika.exceptions import ProbableAuthenticationError
from psycopg.rows import dict_row

from tests.support.amqp import Application, publish
from tests.support.project import Project, tenant

CONFIGURATION = "SELECT * FROM tenants.rabbitmq_configurations WHERE cliente_id = %s"
CREDENTIALS = "SELECT * FROM tenants.rabbitmq_credentials WHERE cliente_id = %s"


def changed(summary: dict[str, Any]) -> list[str]:
    return [f"{step['op']} {step['name']}" for step in summary["steps"] if step["op"] not in ("same", "read")]


def rows(outputs: dict[str, Any], query: str, id: str) -> list[dict[str, Any]]:
    with psycopg.connect(outputs["registry_dsn"], row_factory=dict_row) as connection:
        return connection.execute(query.encode(), [id]).fetchall()


def test_the_registry_lists_a_tenants_objects(outputs: dict[str, Any]) -> None:
    (row,) = rows(outputs, CONFIGURATION, "beta")
    assert {key: value for key, value in row.items() if not key.endswith("_at")} == {
        "cliente_id": "beta",
        "vhost": "/cliente_beta",
        "modulos_habilitados": ["crm", "financeiro"],
        "plano": "basic",
        "status": "ativo",
        "notify": None,
    }


def test_the_registry_holds_no_password(outputs: dict[str, Any]) -> None:
    (row,) = rows(outputs, CREDENTIALS, "beta")
    assert (row["username"], row["vhost"]) == ("kryonix_beta", "/cliente_beta")
    assert outputs["tenants"]["beta"]["password"] not in str(row)


def test_the_registrys_hash_restores_a_lost_user(outputs: dict[str, Any], beta: Application) -> None:
    (row,) = rows(outputs, CREDENTIALS, "beta")
    user, admin = ("users", row["username"]), beta.admin
    permissions = admin.get("permissions", beta.vhost, row["username"])
    limits = admin.get("user-limits", row["username"])[0]["value"]
    try:
        admin.call("DELETE", *user).raise_for_status()
        with pytest.raises(ProbableAuthenticationError):
            asyncio.run(beta.account.connect())
    finally:
        restored = {"password_hash": row["password_hash"], "tags": "management"}
        admin.call("PUT", *user, json=restored).raise_for_status()
        admin.call("PUT", "permissions", beta.vhost, row["username"], json=permissions).raise_for_status()
        for limit, value in limits.items():
            admin.call("PUT", "user-limits", row["username"], limit, json={"value": value}).raise_for_status()

    async def works() -> None:
        async with beta.account.channel() as channel:
            await publish(channel, "cliente_beta", "crm.leads.create.high")

    asyncio.run(works())


def test_a_removed_tenant_is_remembered_without_its_secrets(platform: Project, outputs: dict[str, Any]) -> None:
    notify = {"webhook": "https://hooks.example.com/a-token", "email": ["ops@example.com"]}
    entry = tenant("partida", "whitelabel", plan="pro")
    stack = platform.beside("tenant-partida", tenant={**entry, "notify": notify})
    stack.must("up")
    assert len(rows(outputs, CREDENTIALS, "partida")) == 1
    assert rows(outputs, CONFIGURATION, "partida")[0]["notify"] == notify
    assert "a-token" not in stack.run("export").stdout
    stack.configure(tenant={**entry, "notify": {"email": ["ops@example.com"]}})
    assert changed(stack.must("preview")) == ["update partida/record"]
    stack.configure(tenant=entry)
    stack.must("up")
    assert rows(outputs, CONFIGURATION, "partida")[0]["notify"] is None
    assert changed(stack.must("preview")) == []
    stack.configure(tenant={**entry, "notify": notify})
    stack.must("up")
    stack.must("destroy")
    (row,) = rows(outputs, CONFIGURATION, "partida")
    assert row["notify"] is None
    assert (row["status"], row["plano"], row["modulos_habilitados"]) == ("removido", "pro", ["whitelabel"])
    assert rows(outputs, CREDENTIALS, "partida") == []
