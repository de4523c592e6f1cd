"""PostgreSQL privileges: grants on existing objects, and defaults for future ones."""

from __future__ import annotations

import zlib
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final, LiteralString

import psycopg
from psycopg import sql

from kryonix.engines.local.errors import InvalidInputs
from kryonix.engines.local.handlers.base import UNKNOWN, LiveResource, Properties
from kryonix.engines.local.handlers.fields import KEY, Field, Fields, Kind
from kryonix.engines.local.handlers.postgres_server import Cursor, ServerHandler

_ALLOWED: Final[Mapping[str, tuple[str, ...]]] = {
    "database": ("CREATE", "CONNECT", "TEMPORARY"),
    "schema": ("CREATE", "USAGE"),
    "table": ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN"),
    "sequence": ("USAGE", "SELECT", "UPDATE"),
    "function": ("EXECUTE",),
}

# The role's oid (0: PUBLIC), if role, schema and owner exist; otherwise there is nothing to read or to revoke.
_GRANTEE: Final[LiteralString] = (
    "SELECT COALESCE((SELECT oid FROM pg_roles WHERE rolname = %(role)s), 0) AS grantee "
    "WHERE (%(role)s = 'public' OR EXISTS (SELECT FROM pg_roles WHERE rolname = %(role)s)) "
    "AND (%(schema)s = '' OR EXISTS (SELECT FROM pg_namespace WHERE nspname = %(schema)s)) "
    "AND (%(owner)s = '' OR EXISTS (SELECT FROM pg_roles WHERE rolname = %(owner)s))"
)
# The privileges of a role on one object, or on each of several tables.
_HELD: Final[Mapping[str, LiteralString]] = {
    "database": "SELECT datname AS name, p.privilege_type FROM pg_database LEFT JOIN LATERAL aclexplode(datacl) p "
    "ON p.grantee = %(grantee)s WHERE datname = %(database)s",
    "schema": "SELECT nspname AS name, p.privilege_type FROM pg_namespace LEFT JOIN LATERAL aclexplode(nspacl) p "
    "ON p.grantee = %(grantee)s WHERE nspname = %(schema)s",
    "table": "SELECT relname AS name, p.privilege_type FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace "
    "LEFT JOIN LATERAL aclexplode(relacl) p ON p.grantee = %(grantee)s "
    "WHERE nspname = %(schema)s AND relname = ANY (%(objects)s)",
    "function": "SELECT proname AS name, p.privilege_type FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace "
    "LEFT JOIN LATERAL aclexplode(proacl) p ON p.grantee = %(grantee)s "
    "WHERE nspname = %(schema)s AND proname = ANY (%(objects)s)",
}
_OBJECTS: Final = ("table", "function")
"""Types of objects that a grant lists by name."""
_HELD_BY_DEFAULT: Final[LiteralString] = (
    "SELECT defaclobjtype AS name, p.privilege_type FROM pg_default_acl d JOIN pg_namespace n ON n.oid = "
    "defaclnamespace, LATERAL aclexplode(defaclacl) p WHERE p.grantee = %(grantee)s AND nspname = %(schema)s "
    "AND defaclobjtype = %(kind)s AND pg_get_userbyid(defaclrole) = %(owner)s"
)


_COMMON: Final[Fields] = {"role": KEY, "database": KEY, "privileges": Field(kind=Kind.TEXT_SET, required=True)}


class _Privileges(ServerHandler):
    """The common half of a grant and of default privileges."""

    constants: ClassVar[Properties] = {"withGrantOption": False}
    replaced_in_place = True

    def check(self, old: Mapping[str, Any] | None, new: Properties) -> Properties:
        values = super().check(old, new)
        kind, privileges = values["objectType"], values["privileges"]
        if UNKNOWN not in (kind, privileges):
            for privilege in privileges:
                if privilege not in (UNKNOWN, *_ALLOWED[kind]):
                    raise InvalidInputs(
                        f"{self.pulumi_type}: {privilege!r} is not a privilege on a {kind}; "
                        f"allowed: {', '.join(_ALLOWED[kind])}"
                    )
        return values

    @abstractmethod
    def id(self, inputs: Properties) -> str:
        """Return the resource id."""

    @abstractmethod
    def apply(self, inputs: Properties) -> None:
        """Replace the role's privileges by those in `inputs`, in one transaction."""

    @abstractmethod
    def held(self, inputs: Properties) -> dict[str, set[str]]:
        """Return the role's privileges by object."""

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        self.apply(inputs)
        return self.id(inputs), dict(inputs)

    def read(self, id: str, inputs: Properties, outputs: Properties) -> LiveResource | None:
        role = self._role(inputs)
        if role is None:
            return None
        # Of several objects that differ, the first stands for all.
        held = [privileges for _, privileges in sorted(self.held(inputs | role).items())]
        if not held and inputs["privileges"]:
            return None
        drifted = [privileges for privileges in held if privileges != set(inputs["privileges"])]
        live = {**inputs, "privileges": sorted(drifted[0])} if drifted else dict(inputs)
        return LiveResource(id, live, dict(live))

    def delete(self, id: str, inputs: Properties, outputs: Properties) -> None:
        if self._role(inputs):
            self.apply({**inputs, "privileges": []})

    def _role(self, inputs: Properties) -> Properties | None:
        if not self._server.has_database(inputs["database"]):
            return None
        values = {"schema": "", "owner": "", **inputs}
        return self._server.row(f"look for role {inputs['role']!r}", _GRANTEE, values, inputs["database"])

    def _grouped(self, query: LiteralString, values: Properties) -> dict[str, set[str]]:
        def select(cursor: Cursor) -> dict[str, set[str]]:
            held: dict[str, set[str]] = {}
            for row in cursor.execute(query, values):
                held.setdefault(row["name"], set()).update([row["privilege_type"]] if row["privilege_type"] else [])
            return held

        return self._server.run(f"read the privileges of {values['role']!r}", select, values["database"])


def _grantee(inputs: Properties) -> sql.Composable:
    return sql.SQL("PUBLIC") if inputs["role"] == "public" else sql.Identifier(inputs["role"])


def _listed(inputs: Properties) -> sql.Composable:
    return sql.SQL(", ".join(inputs["privileges"]))  # keywords, checked against the allowed ones


def _lock(cursor: Cursor, *names: str) -> None:
    """Serialise grants on one object: they rewrite one catalog row, and PostgreSQL refuses all but one."""
    cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [" ".join(("kryonix", *names))])


class GrantHandler(_Privileges):
    """A role's privileges on a database, a schema, tables or functions.

    Its id is `role_database[_schema]_type[_objects]`.
    """

    pulumi_type = "postgresql:index/grant:Grant"
    fields: ClassVar[Fields] = {
        **_COMMON,
        "schema": Field(replaces=True),
        "objectType": replace(KEY, pattern="|".join(_HELD)),
        "objects": Field(kind=Kind.TEXT_SET, replaces=True),
    }

    def check(self, old: Mapping[str, Any] | None, new: Properties) -> Properties:
        values = super().check(old, new)
        kind = values["objectType"]
        for name, kinds in (("schema", ("schema", *_OBJECTS)), ("objects", _OBJECTS)):
            if kind is not UNKNOWN and bool(values.get(name)) is not (kind in kinds):
                rule = "is required" if kind in kinds else "can't be given"
                raise InvalidInputs(f"{self.pulumi_type}: `{name}` {rule} for `objectType` {kind!r}")
        return values

    def id(self, inputs: Properties) -> str:
        schema = [] if inputs["objectType"] == "database" else [inputs["schema"]]
        # The provider plugin sorts a set by the decimal text of each member's CRC.
        objects = sorted(inputs.get("objects") or [], key=lambda name: str(zlib.crc32(name.encode())))
        return "_".join([inputs["role"], inputs["database"], *schema, inputs["objectType"], *objects])

    def apply(self, inputs: Properties) -> None:
        kind, schema, role = inputs["objectType"], inputs.get("schema") or "", _grantee(inputs)
        names = [sql.Identifier(inputs[kind])] if kind not in _OBJECTS else []
        names += [sql.Identifier(schema, name) for name in inputs.get("objects") or []]
        target = sql.SQL(f"{kind.upper()} ") + sql.SQL(", ").join(names)

        def work(cursor: Cursor) -> None:
            _lock(cursor, inputs["database"], schema)
            try:
                cursor.execute(sql.SQL("REVOKE ALL PRIVILEGES ON {} FROM {}").format(target, role))
            except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction):
                if inputs["privileges"]:
                    raise
                return
            if inputs["privileges"]:
                cursor.execute(sql.SQL("GRANT {} ON {} TO {}").format(_listed(inputs), target, role))

        granted = ", ".join(inputs["privileges"]) or "nothing"
        self._server.run(f"grant {granted} on {kind} to {inputs['role']!r}", work, inputs["database"])

    def held(self, inputs: Properties) -> dict[str, set[str]]:
        return self._grouped(_HELD[inputs["objectType"]], inputs)


class DefaultPrivilegesHandler(_Privileges):
    """A role's privileges on an owner's future objects. Its id is `role_database_schema_owner_type`."""

    pulumi_type = "postgresql:index/defaultPrivileges:DefaultPrivileges"
    fields: ClassVar[Fields] = {
        **_COMMON,
        "owner": KEY,
        "schema": KEY,
        "objectType": replace(KEY, pattern="table|sequence"),
    }

    def id(self, inputs: Properties) -> str:
        return "_".join(inputs[part] for part in ("role", "database", "schema", "owner", "objectType"))

    def apply(self, inputs: Properties) -> None:
        owner, schema, role = sql.Identifier(inputs["owner"]), sql.Identifier(inputs["schema"]), _grantee(inputs)
        head = sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} IN SCHEMA {} ").format(owner, schema)
        objects = sql.SQL(f"{inputs['objectType'].upper()}S")

        def work(cursor: Cursor) -> None:
            _lock(cursor, inputs["database"], f"default {inputs['owner']}")
            cursor.execute(head + sql.SQL("REVOKE ALL ON {} FROM {}").format(objects, role))
            if inputs["privileges"]:
                cursor.execute(head + sql.SQL("GRANT {} ON {} TO {}").format(_listed(inputs), objects, role))

        doing = f"set default privileges of {inputs['role']!r} on {inputs['objectType']}s"
        self._server.run(doing, work, inputs["database"])

    def held(self, inputs: Properties) -> dict[str, set[str]]:
        kind = "r" if inputs["objectType"] == "table" else "S"
        return self._grouped(_HELD_BY_DEFAULT, {**inputs, "kind": kind})
