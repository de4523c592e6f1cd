"""Models, modes and sharing in the registry, and the logins that read one tenant's model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from kryonix.backup.platform_reading import MODELS, read_rows
from kryonix.monitoring.routing import routing_figures
from kryonix.registry.connection import EXPORTER_READS, ROUTING_READS, ROUTING_TABLES, SCHEMA, connect
from kryonix.registry.errors import RegistryRefused, RoutingBusy, RoutingRefused
from kryonix.registry.routing_access import end_access, give_access, has_access
from kryonix.registry.routing_models import (
    KEPT,
    RoutingMode,
    fetch_content,
    fetch_models,
    fetch_modes,
    fetch_routing,
    fetch_sharing,
    publish,
    set_mode,
    set_sharing,
)
from kryonix.registry.rows import TenantRow, put_tenant, retire_tenant
from kryonix.registry.tables import add_missing, fetch_tables
from kryonix.routing.model import ModelRefused
from tests.integration.signup.conftest import OWNER, PASSWORD, SIGNUP, WRITER, Registry
from tests.support.routing_models import model, model_file

MADE_AT = model().made_at
CURRENT = "SELECT * FROM tenants.routing_current"


def tenant(id: str) -> TenantRow:
    return TenantRow(
        cliente_id=id,
        vhost=f"/cliente_{id}",
        modulos=("crm",),
        plano="basic",
        status="ativo",
        username=f"kryonix_{id}",
        password_hash="a hash",
    )


@pytest.fixture
def dsn(registry: Registry) -> Iterator[str]:
    """The DSN that commands have; the registry has the tenants acme and beta."""
    dsn = registry.dsn(WRITER)
    with connect(dsn) as connection:
        for id in ("acme", "beta"):
            put_tenant(connection, tenant(id))
    yield dsn
    with connect(dsn) as connection:
        for id in ("acme", "beta"):
            retire_tenant(connection, id)


def published(dsn: str, messages: int = 1000, id: str = "acme", made_of: tuple[str, ...] = ()) -> str:
    content, version = model_file(messages)
    with connect(dsn) as connection:
        publish(connection, id, version, content, made_of, "ana")
    return version


def seen(dsn: str) -> list[dict[str, Any]]:
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        return connection.execute(CURRENT).fetchall()


def test_a_published_model_is_stored_byte_for_byte_and_changes_no_mode(dsn: str) -> None:
    version = published(dsn)
    with connect(dsn) as connection:
        assert fetch_content(connection, "acme", version) == model_file()[0]
        (model,) = fetch_models(connection, "acme")
        assert fetch_routing(connection, "acme") is None
        assert fetch_models(connection, "beta") == []
    assert (model.version, model.made_at, model.messages, model.made_of) == (version, MADE_AT, 1000, ("acme",))
    assert (model.published_by, model.bytes, model.in_use) == ("ana", len(model_file()[0]), False)


def test_a_mode_takes_the_newest_model_and_keeps_it_until_told_otherwise(dsn: str) -> None:
    first = published(dsn, 1)
    with connect(dsn) as connection:
        assert set_mode(connection, "acme", "shadow", by="ana").version == first
    second = published(dsn, 2)
    with connect(dsn) as connection:
        canary = set_mode(connection, "acme", "canary", 12.5)
        assert (canary.mode, canary.canary, canary.version, canary.content) == ("canary", 12.5, first, model_file(1)[0])
        assert set_mode(connection, "acme", "on", version=second).version == second
        rolled_back = set_mode(connection, "acme", "on", version=first, by="bo")
        assert fetch_routing(connection, "acme") == rolled_back
        assert (rolled_back.version, rolled_back.changed_by, rolled_back.made_at) == (first, "bo", MADE_AT)
        assert rolled_back.changed_at > canary.changed_at
        assert fetch_modes(connection) == [RoutingMode(cliente_id="acme", mode="on", version=first, made_at=MADE_AT)]


def test_the_mode_off_needs_no_model(dsn: str) -> None:
    with connect(dsn) as connection:
        off = set_mode(connection, "acme", "off")
    assert (off.version, off.content) == (None, None)


@pytest.mark.parametrize(
    ("mode", "share", "version", "problem"),
    [
        ("on", 0, "0123456789ab", "'acme' has no model '0123456789ab'"),
        ("shadow", 0, None, "'acme' has no model, which the mode 'shadow' needs"),
        ("canary", 0, None, "0 % is not a share for the mode 'canary'"),
        ("canary", 101, None, "101 % is not a share"),
        ("canary", float("nan"), None, "nan % is not a share"),
        ("on", 5, None, "5 % is not a share for the mode 'on'"),
    ],
)
def test_a_wrong_mode_is_refused(dsn: str, mode: Any, share: float, version: str | None, problem: str) -> None:
    with pytest.raises(RoutingRefused, match=problem), connect(dsn) as connection:
        set_mode(connection, "acme", mode, share, version)
    with connect(dsn) as connection:
        assert fetch_routing(connection, "acme") is None


def test_a_damaged_model_can_be_turned_off_and_not_on(registry: Registry, dsn: str) -> None:
    version = published(dsn)
    registry.query("UPDATE tenants.routing_models SET content = content || '\\x20'::bytea")
    problem = f"the model {version} of the tenant 'acme': .*cut off or altered"
    with pytest.raises(ModelRefused, match=problem), connect(dsn) as connection:
        set_mode(connection, "acme", "on", version=version)
    with connect(dsn) as connection:
        assert set_mode(connection, "acme", "off").mode == "off"


def test_what_is_no_model_is_not_published(dsn: str) -> None:
    content, version = model_file()
    with pytest.raises(ModelRefused, match="the model for the tenant 'acme'"), connect(dsn) as connection:
        publish(connection, "acme", version, content[:-2])
    with pytest.raises(RoutingRefused, match=f"has version {version}, not '000000000000'"), connect(dsn) as connection:
        publish(connection, "acme", "000000000000", content)
    with pytest.raises(RoutingRefused, match="no tenant 'nobody'"):
        published(dsn, id="nobody")
    with connect(dsn) as connection:
        assert fetch_models(connection, "acme") == []


def test_the_newest_versions_and_the_one_in_use_are_kept(dsn: str) -> None:
    used = published(dsn, 0)
    with connect(dsn) as connection:
        set_mode(connection, "acme", "on")
    other = published(dsn, 5, id="beta")
    versions = [published(dsn, number) for number in range(1, KEPT + 3)]
    with connect(dsn) as connection:
        models = fetch_models(connection, "acme")
        assert [each.version for each in models] == [*reversed(versions[-KEPT:]), used]
        assert [each.version for each in models if each.in_use] == [used]
        assert [each.version for each in fetch_models(connection, "beta")] == [other]


def test_a_version_that_is_published_again_is_the_newest(dsn: str) -> None:
    first, second = published(dsn, 1), published(dsn, 2)
    published(dsn, 1)
    with connect(dsn) as connection:
        assert [each.version for each in fetch_models(connection, "acme")] == [first, second]


def test_only_one_process_changes_a_tenants_routing(dsn: str) -> None:
    content, version = model_file()
    with connect(dsn) as one:
        publish(one, "acme", version, content)
        for change in (
            lambda other: publish(other, "acme", version, content),
            lambda other: set_mode(other, "acme", "off"),
            lambda other: set_sharing(other, "acme", True),
        ):
            with pytest.raises(RoutingBusy, match="the routing of the tenant 'acme'"), connect(dsn) as other:
                change(other)
        with connect(dsn) as other:
            publish(other, "beta", version, content)
    with connect(dsn) as one:
        set_mode(one, "acme", "on")


def test_a_model_of_others_outcomes_is_published_only_if_all_share(dsn: str) -> None:
    content, version = model_file(tenants=("acme", "beta"))
    with connect(dsn) as connection:
        set_sharing(connection, "beta", True)
    with pytest.raises(RoutingRefused, match="learned from beta, and acme shares no outcomes"):
        published(dsn, made_of=("beta",))
    with pytest.raises(RoutingRefused, match="acme shares no outcomes"), connect(dsn) as connection:
        publish(connection, "acme", version, content)  # the file says it itself
    with connect(dsn) as connection:
        set_sharing(connection, "acme", True)
        publish(connection, "acme", version, content)
        assert fetch_models(connection, "acme")[0].made_of == ("acme", "beta")
        assert list(fetch_sharing(connection)) == ["acme", "beta"]
        set_sharing(connection, "beta", False)
        assert list(fetch_sharing(connection)) == ["acme"]
    with pytest.raises(RoutingRefused, match="beta shares no outcomes"):
        published(dsn, 2, made_of=("acme", "beta"))


def test_a_removed_tenant_shares_no_outcomes(dsn: str) -> None:
    with connect(dsn) as connection:
        for id in ("acme", "beta"):
            set_sharing(connection, id, True)
        retire_tenant(connection, "beta")
        put_tenant(connection, tenant("beta"))
        assert list(fetch_sharing(connection)) == ["acme"]
    with pytest.raises(RoutingRefused, match="beta shares no outcomes"):
        published(dsn, made_of=("beta",))


def test_a_removal_deletes_the_tenants_models_and_no_others(dsn: str) -> None:
    for id in ("acme", "beta"):
        published(dsn, id=id)
        with connect(dsn) as connection:
            set_mode(connection, id, "on")
            give_access(connection, dsn, id)
    with connect(dsn) as connection:
        retire_tenant(connection, "acme")
        assert (fetch_routing(connection, "acme"), fetch_models(connection, "acme")) == (None, [])
        assert not has_access(connection, "acme")
        assert has_access(connection, "beta")
        assert [each.cliente_id for each in fetch_modes(connection)] == ["beta"]
    with pytest.raises(RoutingRefused, match="no tenant 'acme'"):
        published(dsn)
    with pytest.raises(RoutingRefused, match="no tenant 'acme'"), connect(dsn) as connection:
        give_access(connection, dsn, "acme")


def test_a_login_sees_its_own_tenants_model_and_nothing_else(registry: Registry, dsn: str) -> None:
    versions = {"acme": published(dsn, 1), "beta": published(dsn, 2, id="beta")}
    with connect(dsn) as connection:
        for id in versions:
            set_mode(connection, id, "canary", 10)
        own = give_access(connection, f"{dsn}?sslmode=prefer&application_name=x", "acme")
    assert own.endswith("/kryonix_main?sslmode=prefer")
    (row,) = seen(own)
    assert (row["cliente_id"], row["mode"], row["canary"], row["version"]) == ("acme", "canary", 10, versions["acme"])
    assert row["content"] == model_file(1)[0]
    tables = registry.query("SELECT schemaname || '.' || tablename AS name FROM pg_tables WHERE schemaname !~ '^pg_'")
    with psycopg.connect(own, autocommit=True) as connection:
        for statement in (
            *(f"SELECT FROM {table['name']}" for table in tables if "information_schema" not in table["name"]),
            "UPDATE tenants.routing_current SET mode = 'on'",
            "CREATE TABLE tenants.own ()",
            "CREATE TABLE public.own ()",
            "CREATE ROLE other",
            "SET ROLE kryonix_registry",
            "SELECT tenants.grant_routing('beta', 'SCRAM-SHA-256$4096:a$b:c')",
            "SELECT tenants.revoke_routing('beta')",
        ):
            with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ObjectNotInPrerequisiteState)):
                connection.execute(statement.encode())
        roles = connection.execute("SELECT rolname FROM pg_roles").fetchall()
        assert [name for (name,) in roles if "acme" in name or "beta" in name] == []


def test_no_other_role_sees_models_or_makes_logins(registry: Registry, dsn: str) -> None:
    published(dsn)
    for table in (*ROUTING_TABLES, "routing_current"):
        rights = registry.query(f"SELECT has_table_privilege('{SIGNUP}', 'tenants.{table}', 'SELECT') AS may")
        assert rights == [{"may": False}]
    with pytest.raises(RegistryRefused, match="permission denied for function"), connect(registry.dsn()) as connection:
        give_access(connection, dsn, "acme")


@pytest.fixture
def reader(registry: Registry) -> Iterator[str]:
    """The DSN of a role with the rights to routing that the exporter's has."""
    registry.query(f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'")
    registry.query("GRANT USAGE ON SCHEMA tenants TO reader")
    for table in (*EXPORTER_READS[SCHEMA], *ROUTING_READS):
        registry.query(f"GRANT SELECT ON tenants.{table} TO reader")
    yield registry.dsn("reader")
    registry.query("DROP OWNED BY reader")
    registry.query("DROP ROLE reader")


def test_the_exporter_reads_modes_and_times_and_no_model(dsn: str, reader: str) -> None:
    version = published(dsn)
    with connect(dsn) as connection:
        set_mode(connection, "acme", "shadow")
    samples = [sample for family in routing_figures(reader) for sample in family.samples]
    assert [(tuple(each.labels.values()), each.value) for each in samples] == [
        (("acme", "shadow"), 1),
        (("acme", version), MADE_AT.timestamp()),
    ]
    for table in ("routing_models", "routing_sharing", "routing_current"):
        with pytest.raises(RegistryRefused, match="permission denied"), connect(reader) as connection:
            connection.execute(f"SELECT FROM tenants.{table}".encode())


def test_a_new_login_ends_the_one_before_and_a_dropped_one_ends(dsn: str) -> None:
    published(dsn)
    with connect(dsn) as connection:
        set_mode(connection, "acme", "on")
        before = give_access(connection, dsn, "acme")
    with psycopg.connect(before, autocommit=True) as session:
        with connect(dsn) as connection:
            now = give_access(connection, dsn, "acme")
            assert has_access(connection, "acme")
        assert len(seen(now)) == 1
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            seen(before)
        with connect(dsn) as connection:
            assert end_access(connection, "acme")
            assert not end_access(connection, "acme")
        with pytest.raises(psycopg.Error):
            session.execute(CURRENT)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        seen(now)


def test_no_password_reaches_the_server(registry: Registry, dsn: str) -> None:
    registry.query(f"ALTER ROLE {WRITER} SET log_statement = 'all'")
    try:
        with connect(dsn) as connection:
            password = give_access(connection, dsn, "acme").split("@")[0].rpartition(":")[2]
    finally:
        registry.query(f"ALTER ROLE {WRITER} RESET log_statement")
    log = registry.container.logs().decode()
    assert "grant_routing" in log
    assert password not in log


def test_a_registry_without_routing_removes_tenants(registry: Registry, dsn: str) -> None:
    registry.query("ALTER SCHEMA tenants RENAME TO hidden")
    try:
        registry.query("CREATE SCHEMA tenants AUTHORIZATION kryonix_migrator")
        registry.query(f"GRANT USAGE ON SCHEMA tenants TO {WRITER}")
        for table in ("rabbitmq_configurations", "rabbitmq_credentials"):
            registry.query(f"CREATE VIEW tenants.{table} AS SELECT * FROM hidden.{table}")
            registry.query(f"GRANT ALL ON tenants.{table} TO {WRITER}")
        with connect(dsn) as connection:
            assert fetch_modes(connection) == []
            retire_tenant(connection, "beta")
    finally:
        registry.query("DROP SCHEMA tenants CASCADE")
        registry.query("ALTER SCHEMA hidden RENAME TO tenants")


def test_models_beyond_the_limit_of_a_backup_are_left_out(registry: Registry, dsn: str) -> None:
    versions = [published(dsn, number) for number in range(4)]
    with connect(dsn) as connection:
        set_mode(connection, "acme", "on", version=versions[0])
    size = len(model_file()[0])
    kept = {limit: read_rows(registry.dsn(OWNER), models_bytes=limit) for limit in (0, 2 * size + 20, 9 * size)}
    found = [{row["version"] for row in each.rows[MODELS]} for each in kept.values()]
    assert found == [{versions[0]}, {versions[0], versions[3]}, set(versions)]
    whole = read_rows(registry.dsn(OWNER))
    assert kept[9 * size].rows == whole.rows


def test_models_modes_and_withdrawn_consent_survive_a_restore(
    registry: Registry, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kryonix.registry.tables._BATCH", 1)  # each row is a batch
    used = published(dsn, 1)
    published(dsn, 2)
    with connect(dsn) as connection:
        set_mode(connection, "acme", "canary", 12.5, used)
        for id in ("acme", "beta"):
            set_sharing(connection, id, True)
    before = json.loads(json.dumps(read_rows(registry.dsn(OWNER)).rows))
    assert bytes.fromhex(before[MODELS][0]["content"].removeprefix("\\x")) in (model_file(1)[0], model_file(2)[0])
    with connect(dsn) as connection:
        set_sharing(connection, "beta", False)
    registry.query("DELETE FROM tenants.routing_modes")
    registry.query("DELETE FROM tenants.routing_models")
    for added in (2, 0):
        with connect(registry.dsn(OWNER)) as connection:
            tables = fetch_tables(connection).items()
            counts = {name: add_missing(connection, table, before[name]) for name, table in tables}
        assert counts[MODELS] == added
    with connect(dsn) as connection:
        assert len(fetch_models(connection, "acme")) == 2
        routing = fetch_routing(connection, "acme")
        assert list(fetch_sharing(connection)) == ["acme"]
    assert routing is not None
    assert (routing.mode, routing.canary, routing.content) == ("canary", 12.5, model_file(1)[0])
