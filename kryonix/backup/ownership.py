"""Check that a tenant's snapshot holds nothing of anybody else: a restore writes all of it as the administrator."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from kryonix.backup.errors import InvalidBundle
from kryonix.engines.deployments import all_entries
from kryonix.engines.provider_code import foreign_code, foreign_download
from kryonix.registry.connection import SCHEMA
from kryonix.registry.tables import TENANT_TABLES
from kryonix.topology.errors import shown
from kryonix.topology.naming import TENANT_ID, Names

if TYPE_CHECKING:
    from kryonix.backup.snapshot import TenantSnapshot

_STATS_TAGS: Final = {"management"}
EVERYTHING: Final = (".*", ".*", ".*")
_STATE_TYPES: Final = re.compile(
    r"rabbitmq:index/.*|random:index/.*|pulumi:.*|kryonix:messaging:.*|pulumi-python:dynamic.*"
)


def own_users(names: Names) -> re.Pattern[str]:
    """Return the pattern of a tenant's users, of every generation."""
    return re.compile(rf"{re.escape(names.user_of(1))}(\.[1-9][0-9]*)?(?P<stats>\.stats)?")


def check_owned(snapshot: TenantSnapshot, where: str) -> None:
    """Raise InvalidBundle, which names `where`, for the first thing that is not the tenant's own."""
    if found := next(_strangers(snapshot), None):
        raise InvalidBundle(where, f"{found}, which is not the tenant's own. Nothing of it was used")


def _strangers(snapshot: TenantSnapshot) -> Iterator[str]:
    if not re.fullmatch(TENANT_ID, snapshot.tenant):
        yield f"it names the tenant {shown(snapshot.tenant)}"
    names, vhost = snapshot.names, snapshot.vhost
    if vhost is None or vhost["name"] != names.vhost:
        yield f"it holds the vhost {shown(str(vhost and vhost['name']))}"
    yield from _users(snapshot)
    yield from _rows(snapshot)
    if snapshot.entry["id"] != snapshot.tenant:
        yield f"it holds the entry of the tenant {shown(snapshot.entry['id'])}"
    if snapshot.state is not None:
        yield from _state(snapshot.state, names)


def _users(snapshot: TenantSnapshot) -> Iterator[str]:
    own = own_users(snapshot.names)
    for user in snapshot.users:
        match = own.fullmatch(user["name"])
        if match is None:
            yield f"it holds the user {shown(user['name'])}"
        elif not set(user["tags"]) <= (_STATS_TAGS if match["stats"] else set()):
            yield f"its user {user['name']} has the tags {', '.join(user['tags'])}"
    for right in (*snapshot.permissions, *snapshot.topic_permissions):
        if right.get("vhost", snapshot.names.vhost) != snapshot.names.vhost:
            yield f"it holds permissions in the vhost {shown(right['vhost'])}"
    others = [right for right in snapshot.permissions if not own.fullmatch(right["user"])]
    for right in (*others[1:], *(r for r in others if (r["configure"], r["write"], r["read"]) != EVERYTHING)):
        yield f"it holds permissions of the user {shown(right['user'])}"
    for right in snapshot.topic_permissions:
        if not own.fullmatch(right["user"]):
            yield f"it holds topic permissions of the user {shown(right['user'])}"


def _rows(snapshot: TenantSnapshot) -> Iterator[str]:
    own, vhost = own_users(snapshot.names), snapshot.names.vhost
    tables = {f"{SCHEMA}.{name}" for name in TENANT_TABLES}
    for table, rows in snapshot.rows.items():
        if table not in tables:
            yield f"it holds rows of the table {shown(table)}"
        for row in rows:
            if row.get("cliente_id") != snapshot.tenant or row.get("vhost", vhost) != vhost:
                yield f"it holds a row of {table} of the tenant {shown(row.get('cliente_id', ''))}"
            if "username" in row and not own.fullmatch(row["username"]):
                yield f"it holds a row of {table} of the user {shown(row['username'])}"


def _state(state: Mapping[str, Any], names: Names) -> Iterator[str]:
    for resource in all_entries(state):
        urn = shown(resource["urn"])
        if not resource["urn"].startswith(f"urn:pulumi:{names.stack}::"):
            yield f"its state holds {urn}"
        if not _STATE_TYPES.fullmatch(resource["type"]):
            yield f"its state holds a resource of the type {shown(resource['type'])}"
        for name in _foreign_names(resource, names):
            yield f"its state holds {shown(name)} in {urn}"
    if download := foreign_download(state):
        yield f"its state downloads a program for {shown(download)}"
    if foreign := foreign_code(state):
        yield f"its state holds a program for {shown(foreign)}"


def _foreign_names(resource: Mapping[str, Any], names: Names) -> Iterator[str]:
    """Yield names of a resource that are not the tenant's. A provider deletes by the id alone."""
    kind, own = resource["type"], own_users(names)
    if kind.startswith("pulumi:"):  # the provider logs in as the platform's administrator
        return
    if kind.startswith("rabbitmq:index/") and not _is_own_id(str(resource.get("id", "")), kind, names):
        yield str(resource.get("id", ""))
    for values in (resource.get("inputs") or {}, resource.get("outputs") or {}):
        expected = {"vhost": names.vhost, "clienteId": names.tenant_id}
        if kind.endswith(":VHost"):
            expected["name"] = names.vhost
        yield from (str(values[key]) for key, value in expected.items() if values.get(key, value) != value)
        users = [values[key] for key in ("username", "name" if kind.endswith(":User") else "username") if key in values]
        if kind.startswith("pulumi-python:dynamic"):
            users += [*([values["user"]] if "user" in values else ()), *(values.get("statsUsers") or ())]
        yield from (str(user) for user in users if not own.fullmatch(str(user)))


def _is_own_id(id: str, kind: str, names: Names) -> bool:
    """Return True for the id of an object of the tenant's; one without is not made yet."""
    if kind.endswith(":VHost"):
        return id in ("", names.vhost)
    if kind.endswith(":User"):
        return id == "" or own_users(names).fullmatch(id) is not None
    return id == "" or id.endswith(f"@{names.vhost}") or id.startswith(f"{quote(names.vhost, safe='')}/")
