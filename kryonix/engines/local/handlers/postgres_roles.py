"""PostgreSQL roles: login, password as a SCRAM verifier, membership and per-role settings."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Any, ClassVar, Final

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from kryonix.engines.local.handlers.base import Live, Properties
from kryonix.engines.local.handlers.fields import Field, Fields, Kind
from kryonix.engines.local.handlers.postgres_server import Server
from kryonix.engines.local.handlers.resource import Resource

__all__ = ["Role", "verifies"]


def _flag(default: bool = False) -> Field:
    return Field(kind=Kind.FLAG, default=default)


_ATTRIBUTES: Final = {
    "superuser": "SUPERUSER",
    "createDatabase": "CREATEDB",
    "createRole": "CREATEROLE",
    "inherit": "INHERIT",
    "login": "LOGIN",
    "replication": "REPLICATION",
    "bypassRowLevelSecurity": "BYPASSRLS",
}
_SETTINGS: Final = {
    "statementTimeout": "statement_timeout",
    "idleInTransactionSessionTimeout": "idle_in_transaction_session_timeout",
    "assumeRole": "role",
}


class Role(Resource):
    """A role. Its id is its name."""

    pulumi_type = "postgresql:index/role:Role"
    secret_outputs = frozenset({"password"})
    fields: ClassVar[Fields] = {
        "name": Field(required=True),
        "password": Field(),
        "encryptedPassword": _flag(True),
        "roles": Field(kind=Kind.TEXT_SET),
        "searchPaths": Field(kind=Kind.TEXT_LIST),
        "validUntil": Field(default="infinity"),
        "connectionLimit": Field(kind=Kind.WHOLE, default=-1),
        "assumeRole": Field(),
        "statementTimeout": Field(kind=Kind.WHOLE),
        "idleInTransactionSessionTimeout": Field(kind=Kind.WHOLE),
        "skipDropRole": _flag(),
        "skipReassignOwned": _flag(),
        **{name: _flag(name == "inherit") for name in _ATTRIBUTES},
    }

    def __init__(self, on: Server) -> None:
        self._server = on

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        name = inputs["name"]

        def work(cursor: psycopg.Cursor) -> None:
            exists = cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone()
            verb = "ALTER" if exists else "CREATE"
            cursor.execute(sql.SQL(f"{verb} ROLE {{}} WITH ").format(sql.Identifier(name)) + _options(cursor, inputs))
            _configure(cursor, inputs)

        self._server.run(f"create role {name!r}", work)
        return name, dict(inputs)

    def update(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Properties:
        old, new = old_inputs["name"], new_inputs["name"]

        def work(cursor: psycopg.Cursor) -> None:
            _lock(cursor, old)
            if old != new:
                rename = sql.SQL("ALTER ROLE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new))
                cursor.execute(rename)
            cursor.execute(sql.SQL("ALTER ROLE {} WITH ").format(sql.Identifier(new)) + _options(cursor, new_inputs))
            _configure(cursor, new_inputs)

        self._server.run(f"alter role {old!r}", work)
        return dict(new_inputs)

    def read(self, id: str, inputs: Properties, outputs: Properties) -> Live | None:
        name = inputs.get("name", id)
        found = self._server.run(f"read role {name!r}", lambda cursor: _found(cursor, name, inputs["validUntil"]))
        if found is None:
            return None
        live = {**inputs, **_drift(inputs, found)}
        if self._server.superuser and inputs.get("login") and inputs.get("password"):
            stored = self._server.run(f"read the verifier of role {name!r}", lambda cursor: _verifier(cursor, name))
            if not verifies(stored, inputs["password"]):
                live.pop("password")
        return Live(id, live, dict(live))

    def delete(self, id: str, inputs: Properties, outputs: Properties) -> None:
        name = inputs.get("name", id)

        def work(cursor: psycopg.Cursor) -> None:
            if not cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone():
                return
            _lock(cursor, name)
            role = sql.Identifier(name)
            if not inputs.get("skipReassignOwned"):
                cursor.execute(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(role))
                cursor.execute(sql.SQL("DROP OWNED BY {}").format(role))
            if not inputs.get("skipDropRole"):
                cursor.execute(sql.SQL("DROP ROLE {}").format(role))

        self._server.run(f"drop role {name!r}", work)


def _lock(cursor: psycopg.Cursor, name: str) -> None:
    cursor.execute("SELECT pg_advisory_xact_lock(oid::bigint) FROM pg_roles WHERE rolname = %s", [name])


def _options(cursor: psycopg.Cursor, inputs: Properties) -> sql.Composable:
    parts: list[sql.Composable] = [sql.SQL(word if inputs[name] else f"NO{word}") for name, word in _ATTRIBUTES.items()]
    parts.append(sql.SQL("CONNECTION LIMIT {}").format(sql.Literal(inputs["connectionLimit"])))
    parts.append(sql.SQL("VALID UNTIL {}").format(sql.Literal(inputs["validUntil"] or "infinity")))
    password = inputs.get("password")
    if password and password.upper() == "NULL":
        parts.append(sql.SQL("PASSWORD NULL"))
    elif password:
        parts.append(sql.SQL("PASSWORD {}").format(sql.Literal(_hashed(cursor, inputs["name"], password))))
    return sql.SQL(" ").join(parts)


def _hashed(cursor: psycopg.Cursor, name: str, password: str) -> str:
    """The verifier to send: the server, and what it logs, never see the password itself."""
    if re.match(r"SCRAM-SHA-256\$\d+:|md5[0-9a-f]{32}$", password):
        return password
    hashed = cursor.connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256")
    return hashed.decode()


def _configure(cursor: psycopg.Cursor, inputs: Properties) -> None:
    role = sql.Identifier(inputs["name"])
    _members(cursor, inputs["name"], inputs.get("roles") or [])
    paths = inputs.get("searchPaths") or []
    path = sql.SQL(", ").join(map(sql.Identifier, paths)) if paths else sql.SQL("DEFAULT")
    cursor.execute(sql.SQL("ALTER ROLE {} SET search_path TO {}").format(role, path))
    for name, setting in _SETTINGS.items():
        if inputs.get(name):
            alter = sql.SQL(f"ALTER ROLE {{}} SET {setting} TO {{}}").format(role, sql.Literal(inputs[name]))
        else:
            alter = sql.SQL(f"ALTER ROLE {{}} RESET {setting}").format(role)
        cursor.execute(alter)


def _members(cursor: psycopg.Cursor, name: str, wanted: list[str]) -> None:
    rows = cursor.execute(
        "SELECT DISTINCT pg_get_userbyid(roleid) FROM pg_auth_members JOIN pg_roles r ON r.oid = member "
        "WHERE rolname = %s",
        [name],
    ).fetchall()
    granted = {str(row[0]) for row in rows}
    for role in sorted(granted - set(wanted)):
        cursor.execute(sql.SQL("REVOKE {} FROM {}").format(sql.Identifier(role), sql.Identifier(name)))
    for role in sorted(set(wanted) - granted):
        cursor.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), sql.Identifier(name)))


def _found(cursor: psycopg.Cursor, name: str, valid_until: str) -> dict[str, Any] | None:
    rows = cursor.connection.cursor(row_factory=dict_row).execute(
        'SELECT rolsuper AS superuser, rolcreatedb AS "createDatabase", rolcreaterole AS "createRole", '
        "rolinherit AS inherit, rolcanlogin AS login, rolreplication AS replication, "
        'rolbypassrls AS "bypassRowLevelSecurity", rolconnlimit AS "connectionLimit", '
        "COALESCE(rolvaliduntil, 'infinity') = %s::timestamptz AS valid, "
        "COALESCE(rolvaliduntil::text, 'infinity') AS until, COALESCE(rolconfig, '{}') AS config, "
        "ARRAY(SELECT DISTINCT pg_get_userbyid(roleid)::text FROM pg_auth_members WHERE member = r.oid) AS roles "
        "FROM pg_roles r WHERE rolname = %s",
        [valid_until, name],
    )
    return rows.fetchone()


def _drift(inputs: Properties, found: dict[str, Any]) -> Properties:
    drift = {name: found[name] for name in (*_ATTRIBUTES, "connectionLimit")}
    if not found["valid"]:
        drift["validUntil"] = found["until"]
    if set(found["roles"]) != set(inputs.get("roles") or []):
        drift["roles"] = sorted(found["roles"])
    config = dict(entry.split("=", 1) for entry in found["config"])
    paths = [part.strip().strip('"') for part in config.get("search_path", "").split(",") if part.strip()]
    if paths != (inputs.get("searchPaths") or []):
        drift["searchPaths"] = paths
    for name, setting in _SETTINGS.items():
        if config.get(setting, "") != str(inputs.get(name) or ""):
            drift[name] = config.get(setting, "") if name == "assumeRole" else _milliseconds(config.get(setting))
    return drift


def _milliseconds(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0


def _verifier(cursor: psycopg.Cursor, name: str) -> str:
    row = cursor.execute("SELECT COALESCE(rolpassword, '') FROM pg_authid WHERE rolname = %s", [name]).fetchone()
    return str(row[0]) if row else ""


def verifies(stored: str, password: str) -> bool:
    """Whether the server's stored verifier is this password's, or is the verifier that was given as one."""
    found = re.fullmatch(r"SCRAM-SHA-256\$(\d+):([^$]+)\$([^:]+):(.+)", stored)
    if not found or password.startswith(("SCRAM-SHA-256$", "md5")):
        return stored == password or (bool(stored) and not found and not password.startswith("SCRAM"))
    rounds, salt, stored_key = int(found[1]), base64.b64decode(found[2]), base64.b64decode(found[3])
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    return hmac.compare_digest(hashlib.sha256(client_key).digest(), stored_key)
