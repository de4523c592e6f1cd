"""Read a tenant from the broker, the registry and its stack, consistently: nothing changed while it was read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from kryonix.backup.errors import BackupError, Changing
from kryonix.backup.manifest import Facts
from kryonix.backup.objects import read_vhost
from kryonix.backup.ownership import own_users
from kryonix.backup.snapshot import Entry, TenantSnapshot
from kryonix.engines.deployments import all_entries
from kryonix.engines.engine import Engine, StackSpec
from kryonix.errors import KryonixError
from kryonix.rabbitmq.broker import Broker
from kryonix.registry.connection import Connection, connect
from kryonix.registry.rows import STATUS_NAMES
from kryonix.registry.tables import Rows, fetch_revision, fetch_rows, tenant_tables
from kryonix.tenants.errors import UnknownTenant
from kryonix.topology.naming import ADMIN_USER, Names, stats_user

T = TypeVar("T")

_TRIES: Final = 3


def read_tenant(
    broker: Broker, registry_dsn: str, engine: Engine | None, tenant_id: str
) -> tuple[TenantSnapshot, Facts]:
    """Return a tenant, and the facts of its platform. Without an engine, the state of its stack is left out.

    Consistent: see below. Raises Changing, UnknownTenant, and BackupError for a tenant without a vhost.
    """

    def read() -> tuple[TenantSnapshot, str]:
        return _read(broker, registry_dsn, engine, tenant_id)

    def still(found: tuple[TenantSnapshot, str]) -> bool:
        with connect(registry_dsn) as connection:
            return _rows(connection, tenant_id) == found[0].rows

    (found, revision), etag = consistent(f"the tenant {tenant_id!r}", broker.definitions_version, read, still)
    if found.vhost is None:
        raise _nothing(found)
    return found, facts_of(broker, revision, etag, found.counts)


def consistent(
    what: str, version: Callable[[], str], read: Callable[[], T], still: Callable[[T], bool]
) -> tuple[T, str]:
    """Return a reading during which nothing changed, and the version of the broker's definitions.

    `version` tells that version, and `still` if the rest is as it was read. Where something else on the broker changes
    all the time, two equal readings in a row are consistent too. Raises Changing after three tries.
    """
    last = None
    for _ in range(_TRIES):
        before = version()
        found = read()
        unchanged, after = still(found), version()
        if unchanged and ((after and before == after) or found == last):
            return found, after
        last = found if unchanged else None
    raise Changing(f"{what} changed while it was read, {_TRIES} times. Run again once the operation on it has ended")


def read_live(broker: Broker, registry_dsn: str, engine: Engine | None, tenant_id: str) -> TenantSnapshot:
    """Return what there is of a tenant at the moment, even if it is nothing. Its consistency is not checked."""
    return _read(broker, registry_dsn, engine, tenant_id)[0]


def state_of(engine: Engine, stack: str) -> dict[str, Any] | None:
    """Return the deployment of a stack, with secrets encrypted; None if the engine has none."""
    document = engine.export(StackSpec(name=stack))
    return document if all_entries(document) else None


def facts_of(broker: Broker, revision: str, etag: str, counts: Mapping[str, int]) -> Facts:
    """Return the facts of a reading. `revision` is that of the registry's tables."""
    nodes = len(broker.nodes())
    return Facts(broker=broker.version(), broker_nodes=nodes, registry=revision, etag=etag, counts=counts)


def _nothing(found: TenantSnapshot) -> KryonixError:
    if not any(found.rows.values()):
        return UnknownTenant(found.tenant)
    problem = f"the broker has no vhost {found.names.vhost}: there is nothing of the tenant to back up"
    return BackupError(f"{problem}. If it is lost, restore the tenant from its last backup")


def _read(broker: Broker, registry_dsn: str, engine: Engine | None, tenant_id: str) -> tuple[TenantSnapshot, str]:
    with connect(registry_dsn) as connection:
        rows, revision = _rows(connection, tenant_id), fetch_revision(connection)
    names = Names(tenant_id)
    users = [user for user in broker.users(names.vhost) if own_users(names).fullmatch(user)]
    found = TenantSnapshot(
        tenant=tenant_id,
        **read_vhost(broker, names.vhost, {*users, *_named(names, rows)}, administrators=(ADMIN_USER, broker.username)),
        rows=rows,
        entry=_entry(tenant_id, rows),
        state=state_of(engine, names.stack) if engine else None,
    )
    return found, revision


def _rows(connection: Connection, tenant_id: str) -> Rows:
    return {table.name: fetch_rows(connection, table, tenant_id) for table in tenant_tables(connection)}


def _named(names: Names, rows: Rows) -> set[str]:
    """Return the users that the tenant's rows name. They may have lost their permissions."""
    named = {row["username"] for row in rows["tenants.rabbitmq_credentials"]}
    for row in rows["tenants.desired_states"]:
        generations = (row["credentials_generation"], row["retiring_generation"])
        named |= {names.user_of(generation) for generation in generations if generation}
    return named | set(map(stats_user, named))


def _entry(tenant_id: str, rows: Rows) -> dict[str, Any]:
    """Return the tenant as in tenants.yaml, as far as its rows tell."""
    for row in rows["tenants.desired_states"]:
        if row["status"] != "removed":
            status = "active" if row["status"] == "active" else "suspended"
            fields = {"modules": row["modules"], "plan": row["plan"], "status": status, "cell": row["cell"]}
            certified = {"auth": row["auth"]} if row.get("auth", "password") != "password" else {}
            return {"id": tenant_id, **fields, **certified, **_notify(row)}
    statuses = {name: status for status, name in STATUS_NAMES.items()}
    for row in rows["tenants.rabbitmq_configurations"]:
        fields = {"modules": row["modulos_habilitados"], "plan": row["plano"], "status": statuses.get(row["status"])}
        return {"id": tenant_id, **{key: value for key, value in fields.items() if value}, **_notify(row)}
    return {"id": tenant_id}


def _notify(row: Entry) -> dict[str, Any]:
    return {"notify": row["notify"]} if row.get("notify") else {}
