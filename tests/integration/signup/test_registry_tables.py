"""The registry's rows survive a journey through JSON into another database."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kryonix.registry.connection import connect
from kryonix.registry.tables import Rows, add_missing, add_rows, fetch_rows, fetch_tables, put_rows
from tests.integration.signup.conftest import OWNER, WRITER, Registry

STATE = (
    "INSERT INTO tenants.desired_states (cliente_id, modules, plan, status, cell) "
    "VALUES (%s, '[\"crm\"]', 'basic', 'active', 'main')"
)
EXPORT = "INSERT INTO tenants.final_exports (cliente_id, definitions, rows) VALUES (%s, %s, '{}') RETURNING id"


def every_row(registry: Registry) -> Rows:
    with connect(registry.dsn(OWNER)) as connection:
        return {name: fetch_rows(connection, table) for name, table in fetch_tables(connection).items()}


def put_back(registry: Registry, rows: Rows, role: str = OWNER) -> None:
    with connect(registry.dsn(role)) as connection:
        for name, table in fetch_tables(connection).items():
            put_rows(connection, table, rows.get(name, []))


@pytest.fixture
def filled(registry: Registry) -> Registry:
    """Every kind of value: bytes, JSON with awkward text, microseconds, null, numbers of their own, references."""
    registry.key("admin")
    registry.query(
        "INSERT INTO signup.operations (id, tenant, kind, request, key_id, fingerprint, sealed) "
        "SELECT gen_random_uuid(), 'acme', 'create', %s, id, '\\x00ff', '\\x7f00' FROM signup.api_keys",
        json.dumps({"modules": ["ção", "a\"\\'b\n"], "float": 0.1}),
    )
    registry.query(
        "INSERT INTO signup.audit (request_id, peer, method, path, status) "
        "VALUES (gen_random_uuid(), '::1', 'GET', '/', 200)"
    )
    for tenant in ("acme", "globex"):
        registry.query(STATE, tenant)
        registry.query(EXPORT, tenant, json.dumps({"of": tenant}))
    return registry


def test_tables_hold_all_that_the_product_knows(registry: Registry) -> None:
    with connect(registry.dsn(OWNER)) as connection:
        tables = fetch_tables(connection)
    names = list(tables)
    assert {"tenants.rabbitmq_credentials", "tenants.rollout_tenants", "signup.audit", "signup.api_keys"} <= set(names)
    assert [name for name in names if "procrastinate" in name or "alembic" in name] == []
    assert names.index("signup.api_keys") < names.index("signup.operations")
    assert names.index("tenants.desired_states") < names.index("tenants.final_exports")
    assert tables["signup.audit"].identity == "id"


def test_rows_are_the_same_in_an_empty_database(filled: Registry) -> None:
    before = json.loads(json.dumps(every_row(filled)))
    filled.clear()
    filled.query("TRUNCATE tenants.final_exports")
    put_back(filled, before)
    assert every_row(filled) == before
    assert len(before["signup.operations"]) == len(before["signup.audit"]) == 1
    put_back(filled, before)
    assert every_row(filled) == before


def test_a_changed_row_is_overwritten(filled: Registry) -> None:
    before = every_row(filled)
    filled.query("UPDATE tenants.desired_states SET plan = 'pro', modules = '[]'")
    put_back(filled, before)
    assert every_row(filled) == before


def test_new_rows_get_other_numbers_than_restored_ones(filled: Registry) -> None:
    before = every_row(filled)
    for table in ("signup.audit", "tenants.final_exports"):
        filled.query(f"TRUNCATE {table} RESTART IDENTITY")
    put_back(filled, before)
    highest = max(row["id"] for row in before["tenants.final_exports"])
    (made,) = filled.query(EXPORT, "acme", "{}")
    assert made["id"] > highest


def test_columns_that_a_bundle_lacks_keep_their_defaults(filled: Registry) -> None:
    before = every_row(filled)
    older: Rows = {
        "tenants.desired_states": [
            {key: value for key, value in row.items() if key not in ("notify", "applied_generation")}
            for row in before["tenants.desired_states"]
        ]
    }
    filled.query("TRUNCATE tenants.desired_states CASCADE")
    put_back(filled, older)
    assert every_row(filled)["tenants.desired_states"] == before["tenants.desired_states"]


def ids(registry: Registry) -> list[dict[str, Any]]:
    return registry.query("SELECT id, cliente_id, definitions FROM tenants.final_exports ORDER BY id")


def test_history_of_one_tenant_comes_back_under_free_numbers(filled: Registry) -> None:
    with connect(filled.dsn(WRITER)) as connection:
        table = fetch_tables(connection)["tenants.final_exports"]
        lost = fetch_rows(connection, table, "acme")
    assert [row["cliente_id"] for row in lost] == ["acme"]
    filled.query("DELETE FROM tenants.final_exports WHERE cliente_id = 'acme'")
    filled.query("UPDATE tenants.final_exports SET id = DEFAULT")
    other = ids(filled)
    for _ in range(2):
        with connect(filled.dsn(WRITER)) as connection:
            add_rows(connection, table, lost)
    assert [row["cliente_id"] for row in ids(filled)] == ["globex", "acme"]
    assert ids(filled)[0] == other[0]
    assert ids(filled)[1]["definitions"] == {"of": "acme"}


def add_back(registry: Registry, rows: Rows) -> dict[str, int]:
    with connect(registry.dsn(OWNER)) as connection:
        tables = fetch_tables(connection).items()
        return {name: added for name, table in tables if (added := add_missing(connection, table, rows.get(name, [])))}


def test_missing_rows_are_added_and_the_rest_stays(filled: Registry) -> None:
    before = every_row(filled)
    assert add_back(filled, before) == {}
    filled.query("DELETE FROM tenants.final_exports WHERE cliente_id = 'acme'")
    filled.query("DELETE FROM tenants.desired_states WHERE cliente_id = 'acme'")
    filled.query("UPDATE tenants.desired_states SET plan = 'pro'")
    assert add_back(filled, before) == {"tenants.desired_states": 1, "tenants.final_exports": 1}
    plans = filled.query("SELECT cliente_id, plan FROM tenants.desired_states ORDER BY 1")
    assert [tuple(row.values()) for row in plans] == [("acme", "basic"), ("globex", "pro")]


def test_history_is_added_though_its_numbers_are_taken(filled: Registry) -> None:
    before = every_row(filled)
    filled.query("TRUNCATE signup.audit RESTART IDENTITY")
    filled.query(
        "INSERT INTO signup.audit (request_id, peer, method, path, status) "
        "SELECT gen_random_uuid(), '::1', 'GET', '/newer', 200 FROM generate_series(1, %s)",
        newer := before["signup.audit"][0]["id"],
    )
    for _ in range(2):
        add_back(filled, before)
    found = filled.query("SELECT path FROM signup.audit ORDER BY path")
    assert [row["path"] for row in found] == ["/", *["/newer"] * newer]


@pytest.mark.parametrize("id", ["' OR true --", "acme'; DROP TABLE x", ""])
def test_an_odd_id_selects_nothing(filled: Registry, id: str) -> None:
    with connect(filled.dsn(WRITER)) as connection:
        assert fetch_rows(connection, fetch_tables(connection)["tenants.desired_states"], id) == []
