"""Privileges of the service's role in an upgraded database."""

from __future__ import annotations

import pytest

from kryonix.registry.connection import BACKUP_READS, BACKUP_WRITES, ROUTING_TABLES, SCHEMA
from kryonix.signup.database import QUERIES, Database
from tests.integration.signup.conftest import SIGNUP, Registry


def audit(registry: Registry, days: int, count: int = 1) -> None:
    registry.query(
        "INSERT INTO signup.audit (at, request_id, peer, method, path, status) "
        f"SELECT now() - interval '{days} days', gen_random_uuid(), 'x', 'GET', '/', 200 "
        f"FROM generate_series(1, {count})"
    )


def ages(registry: Registry) -> list[int]:
    found = registry.query("SELECT round(extract(epoch FROM now() - at) / 86400)::int AS days FROM signup.audit")
    return sorted(row["days"] for row in found)


@pytest.mark.parametrize(
    ("table", "rights"),
    [
        ("audit", {"SELECT", "INSERT"}),
        ("api_keys", {"SELECT", "INSERT"}),
        ("operations", {"SELECT", "INSERT", "UPDATE", "DELETE"}),
        ("outbox", {"SELECT", "INSERT", "UPDATE", "DELETE"}),
    ],
)
def test_the_role_has_only_the_rights_that_the_service_uses(registry: Registry, table: str, rights: set[str]) -> None:
    every = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
    held = {
        right
        for right in every
        if registry.query(f"SELECT has_table_privilege('{SIGNUP}', 'signup.{table}', '{right}') AS held")[0]["held"]
    }
    assert held == rights


def test_the_role_updates_only_the_end_of_a_key(registry: Registry) -> None:
    columns = registry.query(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = 'signup' AND table_name = 'api_keys' "
        f"AND has_column_privilege('{SIGNUP}', 'signup.api_keys', column_name, 'UPDATE')"
    )
    assert {row["column_name"] for row in columns} == {"revoked_at", "expires_at"}


def test_old_audit_rows_are_deleted_in_batches_and_recent_ones_kept(registry: Registry) -> None:
    audit(registry, 500, count=30)
    audit(registry, 100)
    audit(registry, 29)
    with Database(registry.dsn(), size=1) as database:
        counts = []
        for days, limit in ((400, 20), (400, 20), (400, 20), (0, 1000), (-1000, 1000)):
            with database.transaction() as connection:
                (row,) = connection.execute(QUERIES["forget_audit"], {"seconds": days * 86_400.0, "limit": limit})
                counts.append(row["count"])
    assert counts == [20, 10, 0, 1, 0]
    assert ages(registry) == [29]


def test_only_the_role_calls_the_audits_deletion(registry: Registry) -> None:
    registry.query("CREATE ROLE stranger")
    try:
        (row,) = registry.query(
            "SELECT has_function_privilege('stranger', 'signup.forget_audit(float, int)', 'EXECUTE') AS may"
        )
        assert row["may"] is False
    finally:
        registry.query("DROP ROLE stranger")


def test_the_backups_role_is_given_every_table(registry: Registry) -> None:
    tables = registry.query(
        "SELECT schemaname AS schema, tablename AS name FROM pg_tables WHERE schemaname IN ('tenants', 'signup')"
    )
    given = {(schema, name) for schema, names in BACKUP_READS.items() for name in names}
    given |= {(SCHEMA, name) for name in ROUTING_TABLES}
    written = {(SCHEMA, name) for name in BACKUP_WRITES}
    assert {(row["schema"], row["name"]) for row in tables} == given | written
    assert not given & written
