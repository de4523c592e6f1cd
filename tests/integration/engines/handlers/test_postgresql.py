"""PostgreSQL handlers against a real server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql
from psycopg.errors import InsufficientPrivilege

from kryonix.engines.local.errors import ApplyFailed, ServiceUnavailable
from kryonix.engines.local.handlers import Handler, LiveResource, Provider, provider
from tests.support.project import free_port
from tests.support.tls import CA, HOST, faulty, serving

from .conftest import Postgres

Made = tuple[str, dict[str, Any], dict[str, Any]]


@pytest.fixture
def postgresql(postgres: Postgres) -> Provider:
    return provider("postgresql", postgres.settings())


def handler(opened: Provider, noun: str) -> Handler:
    return opened.handler(f"postgresql:index/{noun[0].lower()}{noun[1:]}:{noun}")


def make(opened: Provider, noun: str, **inputs: Any) -> Made:
    checked = handler(opened, noun).check(None, inputs)
    id, outputs = handler(opened, noun).create(checked)
    return id, checked, outputs


def unchanged(opened: Provider, noun: str, made: Made) -> bool:
    live = handler(opened, noun).read(*made)
    return live is not None and not handler(opened, noun).diff(made[0], live.inputs, live.outputs, made[1]).changed


def repaired(opened: Provider, noun: str, made: Made) -> tuple[str, ...]:
    live = handler(opened, noun).read(*made)
    assert isinstance(live, LiveResource)
    diff = handler(opened, noun).diff(made[0], live.inputs, live.outputs, made[1])
    assert not diff.replaces
    handler(opened, noun).update(made[0], live.inputs, live.outputs, made[1])
    assert unchanged(opened, noun, made)
    return diff.changed


def gone(opened: Provider, noun: str, made: Made) -> bool:
    handler(opened, noun).delete(*made)
    handler(opened, noun).delete(*made)
    return handler(opened, noun).read(*made) is None


def run(postgres: Postgres, statement: str, database: str = "postgres", **names: str) -> None:
    with postgres.connect(database) as connection:
        connection.execute(sql.SQL(statement).format(**{k: sql.Identifier(v) for k, v in names.items()}))


def test_database_schema_roles_and_grants_go_through_their_lifecycle(
    postgresql: Provider, postgres: Postgres, unique: str
) -> None:
    odd = f'{unique} "odd"'
    owner = make(postgresql, "Role", name=f"{unique}_owner")
    reader = make(postgresql, "Role", name=odd, login=True, password="pä'ss")
    database = make(postgresql, "Database", name=odd, owner=owner[0])
    schema = make(postgresql, "Schema", name="tenants", database=odd, owner=owner[0])
    run(postgres, "CREATE TABLE tenants.t (); ALTER TABLE tenants.t OWNER TO {owner}", odd, owner=owner[0])
    common = {"role": odd, "database": odd}
    grants = [
        make(postgresql, "Grant", **common, objectType="database", privileges=["CONNECT"]),
        make(postgresql, "Grant", **common, objectType="schema", schema="tenants", privileges=["USAGE"]),
        make(
            postgresql,
            "Grant",
            **common,
            objectType="table",
            schema="tenants",
            objects=["t"],
            privileges=["SELECT", "INSERT"],
        ),
    ]
    defaults = make(
        postgresql,
        "DefaultPrivileges",
        **common,
        owner=owner[0],
        schema="tenants",
        objectType="table",
        privileges=["SELECT"],
    )
    assert (database[0], schema[0], reader[0]) == (odd, f"{odd}.tenants", odd)
    assert [grant[0] for grant in grants] == [
        f"{odd}_{odd}_database",
        f"{odd}_{odd}_tenants_schema",
        f"{odd}_{odd}_tenants_table_t",
    ]
    assert defaults[0] == f"{odd}_{odd}_tenants_{owner[0]}_table"
    everything = [("Database", database), ("Schema", schema), ("Role", owner), ("Role", reader)]
    everything += [("Grant", grant) for grant in grants]
    everything.append(("DefaultPrivileges", defaults))
    assert [noun for noun, made in everything if not unchanged(postgresql, noun, made)] == []
    with postgres.connect(odd, odd, "pä'ss") as connection:
        connection.execute("SELECT * FROM tenants.t")
    run(postgres, "DROP TABLE tenants.t", odd)

    assert gone(postgresql, "DefaultPrivileges", defaults)
    for grant in reversed(grants):
        handler(postgresql, "Grant").delete(*grant)
        handler(postgresql, "Grant").delete(*grant)
    assert gone(postgresql, "Schema", schema)
    assert gone(postgresql, "Database", database)
    assert all(handler(postgresql, "Grant").read(*grant) is None for grant in grants)
    assert gone(postgresql, "Role", reader)
    assert gone(postgresql, "Role", owner)


def test_a_role_may_call_only_the_function_that_it_is_granted(
    postgresql: Provider, postgres: Postgres, unique: str
) -> None:
    role = make(postgresql, "Role", name=unique, login=True, password="secret")
    grant = make(
        postgresql,
        "Grant",
        role=unique,
        database="postgres",
        objectType="function",
        schema="pg_catalog",
        objects=["pg_reload_conf"],
        privileges=["EXECUTE"],
    )
    assert grant[0] == f"{unique}_postgres_pg_catalog_function_pg_reload_conf"
    assert unchanged(postgresql, "Grant", grant)
    with postgres.connect(user=unique, password="secret") as connection:
        connection.execute("SELECT pg_reload_conf()")
        with pytest.raises(InsufficientPrivilege):
            connection.execute("SELECT pg_switch_wal()")
    run(postgres, "REVOKE ALL ON FUNCTION pg_reload_conf FROM {role}", role=unique)
    assert repaired(postgresql, "Grant", grant) == ("privileges",)
    handler(postgresql, "Grant").delete(*grant)
    with postgres.connect(user=unique, password="secret") as connection, pytest.raises(InsufficientPrivilege):
        connection.execute("SELECT pg_reload_conf()")
    assert gone(postgresql, "Role", role)


def test_a_manually_changed_role_is_repaired(postgresql: Provider, postgres: Postgres, unique: str) -> None:
    role = make(postgresql, "Role", name=unique, login=True, password="secret")
    assert unchanged(postgresql, "Role", role)
    run(postgres, "ALTER ROLE {role} PASSWORD 'other' CREATEDB CONNECTION LIMIT 3", role=unique)
    assert repaired(postgresql, "Role", role) == ("connectionLimit", "createDatabase", "password")
    with postgres.connect(user=unique, password="secret"):
        pass
    assert gone(postgresql, "Role", role)


def test_only_a_role_with_that_right_creates_others(postgresql: Provider, postgres: Postgres, unique: str) -> None:
    role = make(postgresql, "Role", name=unique, login=True, password="secret", createRole=True)
    with postgres.connect(user=unique, password="secret") as connection:
        connection.execute(f"CREATE ROLE {unique}_other".encode())
        connection.execute(f"DROP ROLE {unique}_other".encode())
    run(postgres, "ALTER ROLE {role} NOCREATEROLE", role=unique)
    with postgres.connect(user=unique, password="secret") as connection, pytest.raises(InsufficientPrivilege):
        connection.execute(f"CREATE ROLE {unique}_other".encode())
    assert repaired(postgresql, "Role", role) == ("createRole",)
    assert gone(postgresql, "Role", role)


def test_a_role_accepts_a_scram_verifier_as_password(postgresql: Provider, postgres: Postgres, unique: str) -> None:
    with postgres.connect() as connection:
        verifier = connection.pgconn.encrypt_password(b"secret", unique.encode(), b"scram-sha-256").decode()
    role = make(postgresql, "Role", name=unique, login=True, password=verifier)
    with postgres.connect(user=unique, password="secret"):
        assert unchanged(postgresql, "Role", role)
    run(postgres, "ALTER ROLE {role} PASSWORD 'other'", role=unique)
    assert repaired(postgresql, "Role", role) == ("password",)
    assert gone(postgresql, "Role", role)


def test_manually_changed_privileges_are_repaired(postgresql: Provider, postgres: Postgres, unique: str) -> None:
    role = make(postgresql, "Role", name=unique)
    database = make(postgresql, "Database", name=unique, owner="admin")
    common = {"role": unique, "database": unique, "privileges": ["CONNECT", "CREATE"]}
    grant = make(postgresql, "Grant", **common, objectType="database")
    run(postgres, "REVOKE CREATE ON DATABASE {db} FROM {role}", db=unique, role=unique)
    assert repaired(postgresql, "Grant", grant) == ("privileges",)
    run(postgres, "REVOKE ALL ON DATABASE {db} FROM {role}", db=unique, role=unique)
    assert repaired(postgresql, "Grant", grant) == ("privileges",)
    assert gone(postgresql, "Database", database)
    assert gone(postgresql, "Role", role)


def test_the_rights_of_public_can_be_set(postgresql: Provider, unique: str) -> None:
    database = make(postgresql, "Database", name=unique, owner="admin")
    common = {"role": "public", "database": unique}
    grant = make(postgresql, "Grant", **common, objectType="database", privileges=["CONNECT"])
    nothing = make(postgresql, "Grant", **common, objectType="schema", schema="public", privileges=[])
    assert unchanged(postgresql, "Grant", grant)
    assert unchanged(postgresql, "Grant", nothing)
    assert gone(postgresql, "Database", database)


def test_a_database_is_renamed_and_altered_in_place(postgresql: Provider, postgres: Postgres, unique: str) -> None:
    role = make(postgresql, "Role", name=unique)
    id, inputs, outputs = make(postgresql, "Database", name=unique, owner="admin")
    run(postgres, "ALTER DATABASE {db} CONNECTION LIMIT 3", db=unique)
    assert repaired(postgresql, "Database", (id, inputs, outputs)) == ("connectionLimit",)
    new = {**inputs, "name": f"{unique}_new", "owner": unique}
    assert not handler(postgresql, "Database").diff(id, inputs, outputs, new).replaces
    outputs = handler(postgresql, "Database").update(id, inputs, outputs, new)
    assert unchanged(postgresql, "Database", (id, new, outputs))
    assert outputs["owner"] == unique
    assert gone(postgresql, "Database", (id, new, outputs))
    assert gone(postgresql, "Role", role)


def test_only_an_empty_leftover_database_is_taken_over(postgresql: Provider, postgres: Postgres, unique: str) -> None:
    role = make(postgresql, "Role", name=unique)
    make(postgresql, "Database", name=unique, owner="admin")
    database = make(postgresql, "Database", name=unique, owner=unique)
    assert unchanged(postgresql, "Database", database)
    run(postgres, "CREATE TABLE precious ()", unique)
    with pytest.raises(ApplyFailed, match=f"database '{unique}' exists already and holds 1"):
        make(postgresql, "Database", name=unique, owner="admin")
    assert gone(postgresql, "Database", database)
    assert gone(postgresql, "Role", role)


def test_concurrent_grants_on_one_object_succeed(postgresql: Provider, unique: str) -> None:
    database = make(postgresql, "Database", name=unique, owner="admin")
    make(postgresql, "Schema", name="s", database=unique, owner="admin")

    def one(number: int) -> list[tuple[str, Made]]:
        role = make(postgresql, "Role", name=f"{unique}_{number}")
        common = {"role": role[0], "database": unique}
        return [
            ("Grant", make(postgresql, "Grant", **common, objectType="database", privileges=["CONNECT"])),
            ("Grant", make(postgresql, "Grant", **common, objectType="schema", schema="s", privileges=["USAGE"])),
            ("Role", role),
        ]

    with ThreadPoolExecutor(16) as pool:
        made = [item for items in pool.map(one, range(24)) for item in items]
        assert all(pool.map(lambda item: unchanged(postgresql, *item), made))
        handler(postgresql, "Database").delete(*database)
        assert all(pool.map(lambda item: gone(postgresql, *item), made))


def test_a_schema_that_holds_tables_is_not_dropped(postgresql: Provider, postgres: Postgres, unique: str) -> None:
    database = make(postgresql, "Database", name=unique, owner="admin")
    id, inputs, outputs = make(postgresql, "Schema", name="s", database=unique, owner="admin")
    run(postgres, "CREATE TABLE s.t ()", unique)
    with pytest.raises(ApplyFailed, match=r"drop schema 's'.*other objects depend"):
        handler(postgresql, "Schema").delete(id, inputs, outputs)
    run(postgres, "DROP TABLE s.t", unique)
    assert gone(postgresql, "Schema", (id, inputs, outputs))
    assert gone(postgresql, "Database", database)


def test_a_wrong_password_names_the_user_and_never_the_password(postgres: Postgres) -> None:
    opened = provider("postgresql", postgres.settings(password="s3cret-wrong"))
    with pytest.raises(ServiceUnavailable, match=f":{postgres.port} refuses the password of user 'admin'") as error:
        make(opened, "Role", name="x")
    assert "s3cret" not in str(error.value)


def test_a_stopped_server_is_named_with_a_remedy(postgres: Postgres) -> None:
    port = free_port()
    opened = provider("postgresql", postgres.settings(port=str(port)))
    with pytest.raises(ServiceUnavailable, match=f"127.0.0.1:{port} can't be reached.*refused.*Start it") as error:
        make(opened, "Role", name="x")
    assert error.value.__cause__ is None


def test_an_error_never_shows_a_password(postgresql: Provider, postgres: Postgres, unique: str) -> None:
    with pytest.raises(ApplyFailed, match="create role") as error:
        make(postgresql, "Role", name="pg_" + unique, login=True, password="s3cret")
    assert "s3cret" not in str(error.value)
    assert "SCRAM" not in str(error.value)


def test_deleting_a_role_that_owns_objects_names_them(postgresql: Provider, postgres: Postgres, unique: str) -> None:
    role = make(postgresql, "Role", name=unique)
    database = make(postgresql, "Database", name=f"{unique}_db", owner="admin")
    run(postgres, "CREATE SCHEMA s AUTHORIZATION {role}", f"{unique}_db", role=unique)
    with pytest.raises(ApplyFailed, match=f"drop role '{unique}'.*depend on it"):
        handler(postgresql, "Role").delete(*role)
    assert gone(postgresql, "Database", database)
    assert gone(postgresql, "Role", role)


@pytest.mark.parametrize(
    ("fault", "reason"), [("wrong CA", "certificate verify failed"), ("wrong host", "does not match host name")]
)
def test_a_server_with_an_untrusted_certificate_is_refused(tmp_path: Path, fault: str, reason: str) -> None:
    (tmp_path / "ca.pem").write_text(CA.pem)
    with serving(faulty(fault)) as port:
        login = {"host": HOST, "port": str(port), "username": "admin", "password": "secret"}
        verified = provider("postgresql", {**login, "sslmode": "verify-full", "sslrootcert": str(tmp_path / "ca.pem")})
        with pytest.raises(ServiceUnavailable, match=reason):
            make(verified, "Role", name="nobody")
