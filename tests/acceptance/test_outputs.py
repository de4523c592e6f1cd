from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.support.project import Project


@pytest.fixture(scope="module")
def outputs(platform: Project) -> dict[str, Any]:
    return platform.outputs()


def test_stack_outputs_name_every_endpoint_and_tenant(outputs: dict[str, Any]) -> None:
    assert outputs["management_url"].startswith("http://127.0.0.1:")
    assert outputs["metrics_url"].endswith("/metrics")
    assert outputs["amqp_host"] == "127.0.0.1"
    assert outputs["admin_username"] == "kryonix_admin"
    acme = outputs["tenants"]["acme"]
    assert (acme["vhost"], acme["username"], acme["plan"], acme["queues"]) == (
        "/cliente_acme",
        "kryonix_acme",
        "enterprise",
        87,
    )
    assert acme["amqp_uri"] == (
        f"amqp://kryonix_acme:{acme['password']}@127.0.0.1:{int(outputs['amqp_port'])}/%2Fcliente_acme"
    )


def test_secrets_are_hidden_by_default(platform: Project, outputs: dict[str, Any]) -> None:
    shown = platform.run("outputs", "--json").stdout + platform.run("outputs").stdout
    for secret in (outputs["admin_password"], outputs["registry_dsn"], outputs["tenants"]["acme"]["password"]):
        assert secret not in shown
    assert "[secret]" in shown


def test_the_registry_url_grants_row_access_only(outputs: dict[str, Any]) -> None:
    with psycopg.connect(outputs["registry_dsn"], autocommit=True) as connection:
        rows = connection.execute("SELECT cliente_id, status FROM tenants.rabbitmq_configurations").fetchall()
        assert ("acme", "ativo") in rows
        for statement in (
            "CREATE TABLE tenants.mine (x int)",
            "DROP TABLE tenants.rabbitmq_credentials",
            "CREATE ROLE mine",
            "CREATE SCHEMA mine",
            "ALTER TABLE tenants.rabbitmq_configurations ADD COLUMN x int",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
