"""PostgreSQL privileges: grants on what exists, and defaults for what will."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import psycopg
from psycopg import sql

from kryonix.engines.local.errors import InvalidInputs
from kryonix.engines.local.handlers.base import UNKNOWN, Live, Properties
from kryonix.engines.local.handlers.fields import Field, Fields, Kind
from kryonix.engines.local.handlers.postgres_server import Server
from kryonix.engines.local.handlers.resource import Resource

__all__ = ["DefaultPrivileges", "Grant"]

PUBLIC: Final = "public"

_ALLOWED: Final[Mapping[str, tuple[str, ...]]] = {
    "database": ("CREATE", "CONNECT", "TEMPORARY"),
    "table": ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN"),
    "sequence": ("USAGE", "SELECT", "UPDATE"),
    "schema": ("CREATE", "USAGE"),
    "function": ("EXECUTE",),
    "procedure": ("EXECUTE",),
    "routine": ("EXECUTE",),
    "type": ("USAGE",),
}
_KIND_LETTERS: Final[Mapping[str, str]] = {
    "table": "r",
    "sequence": "S",
    "function": "f",
    "routine": "f",
    "type": "T",
    "schema": "n",
}
_GRANTABLE: Final = ("database", "schema", "table", "sequence", "function", "procedure", "routine")

_CATALOG_OF: Final = {"database": "database", "schema": "schema", "table": "relation", "sequence": "relation"}

# Who holds which privileges on one object, or on each object of a kind in a schema. %(role)s is 0 for PUBLIC.
_HELD: Final[Mapping[str, Any]] = {
    "database": "SELECT datname, p.privilege_type FROM pg_database LEFT JOIN LATERAL aclexplode(datacl) p "
    "ON p.grantee = %(role)s WHERE datname = %(database)s",
    "schema": "SELECT nspname, p.privilege_type FROM pg_namespace LEFT JOIN LATERAL aclexplode(nspacl) p "
    "ON p.grantee = %(role)s WHERE nspname = %(schema)s",
    "relation": "SELECT relname, p.privilege_type FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace "
    "LEFT JOIN LATERAL aclexplode(relacl) p ON p.grantee = %(role)s "
    "WHERE nspname = %(schema)s AND relkind = %(kind)s",
    "function": "SELECT proname, p.privilege_type FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace "
    "LEFT JOIN LATERAL aclexplode(proacl) p ON p.grantee = %(role)s WHERE nspname = %(schema)s",
}
_HELD_BY_DEFAULT: Final[Any] = (
    "SELECT p.privilege_type FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = defaclnamespace, "
    "LATERAL aclexplode(defaclacl) p WHERE p.grantee = %(role)s AND defaclobjtype = %(kind)s "
    "AND pg_get_userbyid(defaclrole) = %(owner)s AND COALESCE(nspname, '') = %(schema)s"
)


class _Privileges(Resource):
    """What a grant of today and one of tomorrow have in common."""

    replaced_in_place = True

    def __init__(self, on: Server) -> None:
        self._server = on

    def check(self, old: Mapping[str, Any] | None, new: Properties) -> Properties:
        values = super().check(old, new)
        kind, privileges = values["objectType"], values["privileges"]
        if kind is UNKNOWN or privileges is UNKNOWN:
            return values
        allowed = ("ALL", *_ALLOWED[kind])
        for privilege in privileges:
            if privilege is not UNKNOWN and privilege not in allowed:
                raise InvalidInputs(
                    f"{self.pulumi_type}: {privilege!r} is no privilege on a {kind}; allowed: {', '.join(allowed)}"
                )
        return values

    def _there(self, inputs: Properties) -> bool:
        """Whether database, role and schema exist; without them there is nothing to hold or to revoke."""
        if not self._server.has_database(inputs["database"]):
            return False

        def look(cursor: psycopg.Cursor) -> bool:
            if _role_oid(cursor, inputs["role"]) is None:
                return False
            schema = inputs.get("schema")
            query = "SELECT 1 FROM pg_namespace WHERE nspname = %s"
            return not schema or bool(cursor.execute(query, [schema]).fetchone())

        return self._server.run("look for role and schema", look, database=inputs["database"])


def _role_oid(cursor: psycopg.Cursor, role: str) -> int | None:
    if role == PUBLIC:
        return 0
    row = cursor.execute("SELECT oid FROM pg_roles WHERE rolname = %s", [role]).fetchone()
    return int(row[0]) if row else None


def _grantee(role: str) -> sql.Composable:
    return sql.SQL("PUBLIC") if role == PUBLIC else sql.Identifier(role)


def _listed(privileges: list[str]) -> sql.Composable:
    # Checked against the list of allowed words; they can't be quoted.
    return sql.SQL(", ".join(privileges))


def _same(held: set[str], inputs: Properties) -> bool:
    wanted = set(inputs["privileges"])
    everything = set(_ALLOWED[inputs["objectType"]])
    # MAINTAIN came with version 17: ALL is everything the server knows.
    return held == wanted or ("ALL" in wanted and held in (everything, everything - {"MAINTAIN"}))


class Grant(_Privileges):
    """What a role may do with objects that exist. Its id is `role_database[_schema]_type[_objects]`."""

    pulumi_type = "postgresql:index/grant:Grant"
    fields: ClassVar[Fields] = {
        "role": Field(required=True, replaces=True),
        "database": Field(required=True, replaces=True),
        "schema": Field(replaces=True),
        "objectType": Field(required=True, replaces=True, pattern="|".join(_GRANTABLE)),
        "objects": Field(kind=Kind.TEXT_SET, replaces=True),
        "privileges": Field(kind=Kind.TEXT_SET, required=True),
        "withGrantOption": Field(kind=Kind.FLAG, default=False, replaces=True),
    }

    def check(self, old: Mapping[str, Any] | None, new: Properties) -> Properties:
        values = super().check(old, new)
        kind = values["objectType"]
        if kind is not UNKNOWN and kind != "database" and not values.get("schema"):
            raise InvalidInputs(f"{self.pulumi_type}: `schema` is required where `objectType` is {kind!r}")
        if kind in ("database", "schema") and values.get("objects"):
            raise InvalidInputs(f"{self.pulumi_type}: `objects` can't be given where `objectType` is {kind!r}")
        return values

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        self._set(inputs, inputs)
        return _grant_id(inputs), dict(inputs)

    def update(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Properties:
        self._set(old_inputs, new_inputs)
        return dict(new_inputs)

    def read(self, id: str, inputs: Properties, outputs: Properties) -> Live | None:
        if not self._there(inputs):
            return None
        held = self._server.run(f"read the grant {id!r}", lambda c: _held(c, inputs), database=inputs["database"])
        # Objects of one grant may have drifted apart: the first that differs speaks for all.
        drifted = next((privileges for _, privileges in sorted(held.items()) if not _same(privileges, inputs)), None)
        live = dict(inputs) if drifted is None else {**inputs, "privileges": sorted(drifted)}
        return Live(id, live, dict(live))

    def delete(self, id: str, inputs: Properties, outputs: Properties) -> None:
        if self._there(inputs):
            self._set(inputs, {**inputs, "privileges": []})

    def _set(self, old: Properties, new: Properties) -> None:
        def work(cursor: psycopg.Cursor) -> None:
            _lock_object(cursor, new)
            target, role = _target(new), _grantee(new["role"])
            # Both in one transaction: nobody sees the role without what it keeps.
            try:
                cursor.execute(sql.SQL("REVOKE ALL PRIVILEGES ON {} FROM {}").format(target, role))
            except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction):
                if new["privileges"]:
                    raise
                return
            if new["privileges"]:
                grant = sql.SQL("GRANT {} ON {} TO {}").format(_listed(new["privileges"]), target, role)
                cursor.execute(grant + sql.SQL(" WITH GRANT OPTION" if new["withGrantOption"] else ""))

        doing = f"grant {', '.join(new['privileges']) or 'nothing'} on {new['objectType']} to {new['role']!r}"
        self._server.run(doing, work, database=new["database"])


def _lock_object(cursor: psycopg.Cursor, inputs: Properties) -> None:
    """Grants on one object rewrite one catalog row: one after the other, or PostgreSQL refuses all but one."""
    whole = "" if inputs["objectType"] == "database" else inputs.get("schema", "")
    cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"kryonix {inputs['database']} {whole}"])


def _target(inputs: Properties) -> sql.Composable:
    kind = inputs["objectType"]
    if kind == "database":
        return sql.SQL("DATABASE {}").format(sql.Identifier(inputs["database"]))
    schema = sql.Identifier(inputs["schema"])
    if kind == "schema":
        return sql.SQL("SCHEMA {}").format(schema)
    objects = inputs.get("objects") or []
    if not objects:
        return sql.SQL(f"ALL {kind.upper()}S IN SCHEMA {{}}").format(schema)
    names = [sql.Identifier(inputs["schema"], name.split("(")[0]) + _signature(name) for name in objects]
    return sql.SQL(f"{kind.upper()} ") + sql.SQL(", ").join(names)


def _signature(name: str) -> sql.Composable:
    """The argument types of a function's name, which tell it from others of that name; types can't be quoted."""
    _, paren, types = name.partition("(")
    if not re.fullmatch(r"[\w\s,.\[\]]*\)?", types):
        raise InvalidInputs(f"{Grant.pulumi_type}: {name!r} is no function's name with argument types")
    return sql.SQL(paren + types)


def _held(cursor: psycopg.Cursor, inputs: Properties) -> dict[str, set[str]]:
    """The privileges the role holds on each object of the grant."""
    kind = inputs["objectType"]
    query = _HELD[_CATALOG_OF.get(kind, "function")]
    letter = _KIND_LETTERS.get(kind, "")
    values = {
        "role": _role_oid(cursor, inputs["role"]),
        "kind": letter,
        "database": inputs["database"],
        "schema": inputs.get("schema", ""),
    }
    wanted = {name.split("(")[0] for name in inputs.get("objects") or []}
    held: dict[str, set[str]] = {}
    for name, privilege in cursor.execute(query, values).fetchall():
        if not wanted or name in wanted:
            held.setdefault(name, set()).update({privilege} if privilege else ())
    return held


def _grant_id(inputs: Properties) -> str:
    kind = inputs["objectType"]
    parts = [inputs["role"], inputs["database"], *([] if kind == "database" else [inputs["schema"]]), kind]
    # The provider plugin's order of a set: by the decimal text of each member's CRC.
    return "_".join([*parts, *sorted(inputs.get("objects") or [], key=lambda name: str(zlib.crc32(name.encode())))])


class DefaultPrivileges(_Privileges):
    """What a role may do with the objects another role will make. Its id is `role_database_schema_owner_type`."""

    pulumi_type = "postgresql:index/defaultPrivileges:DefaultPrivileges"
    fields: ClassVar[Fields] = {
        "role": Field(required=True, replaces=True),
        "database": Field(required=True, replaces=True),
        "owner": Field(required=True, replaces=True),
        "schema": Field(replaces=True),
        "objectType": Field(required=True, replaces=True, pattern="|".join(_KIND_LETTERS)),
        "privileges": Field(kind=Kind.TEXT_SET, required=True),
        "withGrantOption": Field(kind=Kind.FLAG, default=False, replaces=True),
    }

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        self._set(inputs)
        schema = inputs.get("schema") or "noschema"
        id = "_".join((inputs["role"], inputs["database"], schema, inputs["owner"], inputs["objectType"]))
        return id, dict(inputs)

    def update(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Properties:
        self._set(new_inputs)
        return dict(new_inputs)

    def read(self, id: str, inputs: Properties, outputs: Properties) -> Live | None:
        if not self._there(inputs):
            return None
        held = self._server.run(f"read {id!r}", lambda c: _held_by_default(c, inputs), database=inputs["database"])
        if not held and inputs["privileges"]:
            return None
        live = dict(inputs) if _same(held, inputs) else {**inputs, "privileges": sorted(held)}
        return Live(id, live, dict(live))

    def delete(self, id: str, inputs: Properties, outputs: Properties) -> None:
        if self._there(inputs) and self._server.run("look for the owner", lambda c: _role_oid(c, inputs["owner"])):
            self._set({**inputs, "privileges": []})

    def _set(self, inputs: Properties) -> None:
        owner, role = sql.Identifier(inputs["owner"]), _grantee(inputs["role"])
        schema = (
            sql.SQL("IN SCHEMA {} ").format(sql.Identifier(inputs["schema"])) if inputs.get("schema") else sql.SQL("")
        )
        head = sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} ").format(owner) + schema
        objects = sql.SQL(f"{inputs['objectType'].upper()}S")

        def work(cursor: psycopg.Cursor) -> None:
            _lock_object(cursor, {**inputs, "schema": f"default {inputs['owner']}"})
            cursor.execute(head + sql.SQL("REVOKE ALL ON {} FROM {}").format(objects, role))
            if inputs["privileges"]:
                grant = head + sql.SQL("GRANT {} ON {} TO {}").format(_listed(inputs["privileges"]), objects, role)
                cursor.execute(grant + sql.SQL(" WITH GRANT OPTION" if inputs["withGrantOption"] else ""))

        self._server.run(
            f"set default privileges of {inputs['role']!r} on {inputs['objectType']}s", work, inputs["database"]
        )


def _held_by_default(cursor: psycopg.Cursor, inputs: Properties) -> set[str]:
    values = {
        "role": _role_oid(cursor, inputs["role"]),
        "kind": _KIND_LETTERS[inputs["objectType"]],
        "owner": inputs["owner"],
        "schema": inputs.get("schema") or "",
    }
    return {str(row[0]) for row in cursor.execute(_HELD_BY_DEFAULT, values).fetchall()}
