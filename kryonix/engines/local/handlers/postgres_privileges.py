"""PostgreSQL privileges: grants on existing objects, and defaults for future ones."""

from __future__ import annotations

import zlib
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import psycopg
from psycopg import sql

from kryonix.engines.local.errors import InvalidInputs
from kryonix.engines.local.handlers.base import UNKNOWN, LiveResource, Properties
from kryonix.engines.local.handlers.fields import Field, Fields, Kind, TableHandler
from kryonix.engines.local.handlers.postgres_server import Server

PUBLIC: Final = "public"

_ALLOWED: Final[Mapping[str, tuple[str, ...]]] = {
    "database": ("CREATE", "CONNECT", "TEMPORARY"),
    "schema": ("CREATE", "USAGE"),
    "table": ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN"),
    "sequence": ("USAGE", "SELECT", "UPDATE"),
}
_KIND_LETTERS: Final = {"table": "r", "sequence": "S"}

# The privileges of role %(role)s (0: PUBLIC) on one object, or on each object of a kind in a schema.
_RELATIONS: Final = (
    "SELECT relname, p.privilege_type FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace "
    "LEFT JOIN LATERAL aclexplode(relacl) p ON p.grantee = %(role)s WHERE nspname = %(schema)s AND relkind = %(kind)s"
)
_HELD: Final[Mapping[str, Any]] = {
    "database": "SELECT datname, p.privilege_type FROM pg_database LEFT JOIN LATERAL aclexplode(datacl) p "
    "ON p.grantee = %(role)s WHERE datname = %(database)s",
    "schema": "SELECT nspname, p.privilege_type FROM pg_namespace LEFT JOIN LATERAL aclexplode(nspacl) p "
    "ON p.grantee = %(role)s WHERE nspname = %(schema)s",
    "table": _RELATIONS,
    "sequence": _RELATIONS,
}
_HELD_BY_DEFAULT: Final[Any] = (
    "SELECT p.privilege_type FROM pg_default_acl d JOIN pg_namespace n ON n.oid = defaclnamespace, "
    "LATERAL aclexplode(defaclacl) p WHERE p.grantee = %(role)s AND defaclobjtype = %(kind)s "
    "AND pg_get_userbyid(defaclrole) = %(owner)s AND nspname = %(schema)s"
)


def _required(**more: Any) -> Field:
    return Field(required=True, replaces=True, **more)


_COMMON: Final[Fields] = {
    "role": _required(),
    "database": _required(),
    "privileges": Field(kind=Kind.TEXT_SET, required=True),
    "withGrantOption": Field(kind=Kind.FLAG, default=False, replaces=True, fixed=True),
}


class _Privileges(TableHandler):
    """The common half of a grant and of default privileges."""

    replaced_in_place = True

    def __init__(self, server: Server) -> None:
        self._server = server

    def check(self, old: Mapping[str, Any] | None, new: Properties) -> Properties:
        values = super().check(old, new)
        kind = values["objectType"]
        if kind is not UNKNOWN and values["privileges"] is not UNKNOWN:
            allowed = ("ALL", *_ALLOWED[kind])
            for privilege in values["privileges"]:
                if privilege is not UNKNOWN and privilege not in allowed:
                    raise InvalidInputs(
                        f"{self.pulumi_type}: {privilege!r} is not a privilege on a {kind}; "
                        f"allowed: {', '.join(allowed)}"
                    )
        return values

    @abstractmethod
    def id(self, inputs: Properties) -> str:
        """Return the resource id."""

    @abstractmethod
    def set(self, inputs: Properties) -> None:
        """Replace the role's privileges by those in `inputs`, in one transaction."""

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        self.set(inputs)
        return self.id(inputs), dict(inputs)

    def exists(self, inputs: Properties) -> bool:
        """Return True if database, role and schema exist; otherwise there is nothing to read or to revoke."""
        if not self._server.has_database(inputs["database"]):
            return False

        def look(cursor: psycopg.Cursor) -> bool:
            schema, query = inputs.get("schema"), "SELECT 1 FROM pg_namespace WHERE nspname = %s"
            has_schema = not schema or bool(cursor.execute(query, [schema]).fetchone())
            return has_schema and _role_oid(cursor, inputs["role"]) is not None

        return self._server.run("look for role and schema", look, database=inputs["database"])


def _role_oid(cursor: psycopg.Cursor, role: str) -> int | None:
    if role == PUBLIC:
        return 0
    row = cursor.execute("SELECT oid FROM pg_roles WHERE rolname = %s", [role]).fetchone()
    return int(row[0]) if row else None


def _grantee(inputs: Properties) -> sql.Composable:
    return sql.SQL("PUBLIC") if inputs["role"] == PUBLIC else sql.Identifier(inputs["role"])


def _listed(inputs: Properties) -> sql.Composable:
    return sql.SQL(", ".join(inputs["privileges"]))  # keywords, checked against the allowed ones


def _same(held: set[str], inputs: Properties) -> bool:
    wanted, everything = set(inputs["privileges"]), set(_ALLOWED[inputs["objectType"]])
    # PostgreSQL before 17 has no MAINTAIN: ALL is everything the server knows.
    return held == wanted or ("ALL" in wanted and held in (everything, everything - {"MAINTAIN"}))


def _lock(cursor: psycopg.Cursor, *names: str) -> None:
    """Serialise grants on one object: they rewrite one catalog row, and PostgreSQL refuses all but one."""
    cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [" ".join(("kryonix", *names))])


class GrantHandler(_Privileges):
    """A role's privileges on existing objects. Its id is `role_database[_schema]_type[_objects]`."""

    pulumi_type = "postgresql:index/grant:Grant"
    fields: ClassVar[Fields] = {
        **_COMMON,
        "schema": Field(replaces=True),
        "objectType": _required(pattern="|".join(_ALLOWED)),
        "objects": Field(kind=Kind.TEXT_SET, replaces=True),
    }

    def check(self, old: Mapping[str, Any] | None, new: Properties) -> Properties:
        values = super().check(old, new)
        kind = values["objectType"]
        if kind is not UNKNOWN and kind != "database" and not values.get("schema"):
            raise InvalidInputs(f"{self.pulumi_type}: `schema` is required for `objectType` {kind!r}")
        if kind in ("database", "schema") and values.get("objects"):
            raise InvalidInputs(f"{self.pulumi_type}: `objects` can't be given for `objectType` {kind!r}")
        return values

    def id(self, inputs: Properties) -> str:
        schema = [] if inputs["objectType"] == "database" else [inputs["schema"]]
        # The provider plugin sorts a set by the decimal text of each member's CRC.
        objects = sorted(inputs.get("objects") or [], key=lambda name: str(zlib.crc32(name.encode())))
        return "_".join([inputs["role"], inputs["database"], *schema, inputs["objectType"], *objects])

    def set(self, inputs: Properties) -> None:
        target, role = _target(inputs), _grantee(inputs)

        def work(cursor: psycopg.Cursor) -> None:
            schema = "" if inputs["objectType"] == "database" else inputs["schema"]
            _lock(cursor, inputs["database"], schema)
            try:
                cursor.execute(sql.SQL("REVOKE ALL PRIVILEGES ON {} FROM {}").format(target, role))
            except psycopg.errors.UndefinedTable:
                if inputs["privileges"]:
                    raise
                return
            if inputs["privileges"]:
                cursor.execute(sql.SQL("GRANT {} ON {} TO {}").format(_listed(inputs), target, role))

        granted = ", ".join(inputs["privileges"]) or "nothing"
        doing = f"grant {granted} on {inputs['objectType']} to {inputs['role']!r}"
        self._server.run(doing, work, database=inputs["database"])

    def read(self, id: str, inputs: Properties, outputs: Properties) -> LiveResource | None:
        if not self.exists(inputs):
            return None
        held = self._server.run(f"read the grant {id!r}", lambda c: _held(c, inputs), database=inputs["database"])
        # Of several objects that differ, the first stands for all.
        drifted = next((privileges for _, privileges in sorted(held.items()) if not _same(privileges, inputs)), None)
        live = dict(inputs) if drifted is None else {**inputs, "privileges": sorted(drifted)}
        return LiveResource(id, live, dict(live))

    def delete(self, id: str, inputs: Properties, outputs: Properties) -> None:
        if self.exists(inputs):
            self.set({**inputs, "privileges": []})


def _target(inputs: Properties) -> sql.Composable:
    kind = inputs["objectType"]
    if kind in ("database", "schema"):
        return sql.SQL(f"{kind.upper()} {{}}").format(sql.Identifier(inputs[kind]))
    if not inputs.get("objects"):
        return sql.SQL(f"ALL {kind.upper()}S IN SCHEMA {{}}").format(sql.Identifier(inputs["schema"]))
    names = [sql.Identifier(inputs["schema"], name) for name in inputs["objects"]]
    return sql.SQL(f"{kind.upper()} ") + sql.SQL(", ").join(names)


def _held(cursor: psycopg.Cursor, inputs: Properties) -> dict[str, set[str]]:
    """Return the role's privileges on each object of the grant."""
    kind = inputs["objectType"]
    values = {
        "role": _role_oid(cursor, inputs["role"]),
        "kind": _KIND_LETTERS.get(kind, ""),
        "database": inputs["database"],
        "schema": inputs.get("schema", ""),
    }
    wanted = inputs.get("objects") or []
    held: dict[str, set[str]] = {}
    for name, privilege in cursor.execute(_HELD[kind], values).fetchall():
        if not wanted or name in wanted:
            held.setdefault(name, set()).update({privilege} if privilege else ())
    return held


class DefaultPrivilegesHandler(_Privileges):
    """A role's privileges on an owner's future objects. Its id is `role_database_schema_owner_type`."""

    pulumi_type = "postgresql:index/defaultPrivileges:DefaultPrivileges"
    fields: ClassVar[Fields] = {
        **_COMMON,
        "owner": _required(),
        "schema": _required(),
        "objectType": _required(pattern="|".join(_KIND_LETTERS)),
    }

    def id(self, inputs: Properties) -> str:
        return "_".join(inputs[part] for part in ("role", "database", "schema", "owner", "objectType"))

    def set(self, inputs: Properties) -> None:
        owner, schema, role = sql.Identifier(inputs["owner"]), sql.Identifier(inputs["schema"]), _grantee(inputs)
        head = sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} IN SCHEMA {} ").format(owner, schema)
        objects = sql.SQL(f"{inputs['objectType'].upper()}S")

        def work(cursor: psycopg.Cursor) -> None:
            _lock(cursor, inputs["database"], f"default {inputs['owner']}")
            cursor.execute(head + sql.SQL("REVOKE ALL ON {} FROM {}").format(objects, role))
            if inputs["privileges"]:
                cursor.execute(head + sql.SQL("GRANT {} ON {} TO {}").format(_listed(inputs), objects, role))

        doing = f"set default privileges of {inputs['role']!r} on {inputs['objectType']}s"
        self._server.run(doing, work, database=inputs["database"])

    def read(self, id: str, inputs: Properties, outputs: Properties) -> LiveResource | None:
        if not self.exists(inputs):
            return None

        def select(cursor: psycopg.Cursor) -> set[str]:
            kind, role = _KIND_LETTERS[inputs["objectType"]], _role_oid(cursor, inputs["role"])
            values = {"role": role, "kind": kind, "owner": inputs["owner"], "schema": inputs["schema"]}
            return {str(row[0]) for row in cursor.execute(_HELD_BY_DEFAULT, values).fetchall()}

        held = self._server.run(f"read {id!r}", select, database=inputs["database"])
        if not held and inputs["privileges"]:
            return None
        live = dict(inputs) if _same(held, inputs) else {**inputs, "privileges": sorted(held)}
        return LiveResource(id, live, dict(live))

    def delete(self, id: str, inputs: Properties, outputs: Properties) -> None:
        if self.exists(inputs) and self._server.run("look for the owner", lambda c: _role_oid(c, inputs["owner"])):
            self.set({**inputs, "privileges": []})
