"""PostgreSQL: databases, schemas and roles."""

from __future__ import annotations

from typing import ClassVar, Final, LiteralString

from psycopg import sql

from kryonix.engines.local.errors import ApplyFailed
from kryonix.engines.local.handlers.base import LiveResource, Properties
from kryonix.engines.local.handlers.fields import KEY, REQUIRED, Field, Fields, HandlerTable, Kind
from kryonix.engines.local.handlers.postgres_privileges import DefaultPrivilegesHandler, GrantHandler
from kryonix.engines.local.handlers.postgres_server import Cursor, Server, ServerHandler
from kryonix.topology.credentials import is_verifier_of, scram_verifier


def provider(config: Properties) -> HandlerTable:
    """Return the handlers of package postgresql for the server in `config`."""
    server = Server.of(config)
    types = (DatabaseHandler, SchemaHandler, RoleHandler, GrantHandler, DefaultPrivilegesHandler)
    return HandlerTable([handler(server) for handler in types])


class DatabaseHandler(ServerHandler):
    """A database. Its id is its name."""

    pulumi_type = "postgresql:index/database:Database"
    fields: ClassVar[Fields] = {"name": REQUIRED, "owner": REQUIRED}
    constants: ClassVar[Properties] = {"connectionLimit": -1, "allowConnections": True, "alterObjectOwnership": False}

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        name = inputs["name"]
        if self._server.has_database(name):
            self._refuse_used(name)
            self._alter(name, inputs)
        else:
            statement = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING UTF8").format(
                sql.Identifier(name), sql.Identifier(inputs["owner"])
            )
            self._server.execute(f"create database {name!r}", statement, autocommit=True)
        return name, self._outputs(inputs)

    def update(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Properties:
        old, new = old_inputs["name"], new_inputs["name"]
        if old != new:
            rename = sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new))
            self._server.execute(f"rename database {old!r}", rename)
        self._alter(new, new_inputs)
        return self._outputs(new_inputs)

    def read(self, id: str, inputs: Properties, outputs: Properties) -> LiveResource | None:
        found = self._found(inputs["name"])
        if found is None:
            return None
        live = {**inputs, **{key: value for key, value in found.items() if key in inputs}}
        return LiveResource(id, live, {"template": "template0", **live, **found})

    def delete(self, id: str, inputs: Properties, outputs: Properties) -> None:
        name = inputs["name"]
        drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        self._server.execute(f"drop database {name!r}", drop, autocommit=True)

    def _refuse_used(self, name: str) -> None:
        """Raise if an existing database holds anything: only an empty one can be from a killed run."""

        query: LiteralString = (
            "SELECT count(*) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace "
            "WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f') "
            "AND nspname !~ '^pg_' AND nspname <> 'information_schema'"
        )
        found = self._server.row(f"look into database {name!r}", query, {}, name)
        if found and (count := found["count"]):
            raise ApplyFailed(
                f"database {name!r} exists already and holds {count} tables, views or sequences, so this stack did not "
                "make it. Give this database another name, or drop the other."
            )

    def _alter(self, name: str, inputs: Properties) -> None:
        statements = ["CONNECTION LIMIT -1", "ALLOW_CONNECTIONS true", "OWNER TO {}"]
        database, owner = sql.Identifier(name), sql.Identifier(inputs["owner"])
        alter = [sql.SQL(f"ALTER DATABASE {{}} {each}").format(database, owner) for each in statements]
        self._server.execute(f"alter database {name!r}", *alter, autocommit=True)

    def _outputs(self, inputs: Properties) -> Properties:
        return {**(self._found(inputs["name"]) or {}), "template": "template0", **inputs}

    def _found(self, name: str) -> Properties | None:
        query: LiteralString = (
            "SELECT datname AS name, pg_get_userbyid(datdba) AS owner, pg_encoding_to_char(encoding) AS encoding, "
            'datcollate AS "lcCollate", datctype AS "lcCtype", spcname AS "tablespaceName", '
            'datconnlimit AS "connectionLimit", datallowconn AS "allowConnections", datistemplate AS "isTemplate" '
            "FROM pg_database JOIN pg_tablespace t ON t.oid = dattablespace WHERE datname = %(name)s"
        )
        return self._server.row(f"read database {name!r}", query, {"name": name})


class SchemaHandler(ServerHandler):
    """A schema in a database. Its id is `database.schema`."""

    pulumi_type = "postgresql:index/schema:Schema"
    fields: ClassVar[Fields] = {"name": REQUIRED, "database": KEY, "owner": REQUIRED}
    constants: ClassVar[Properties] = {"ifNotExists": True, "dropCascade": False}

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        create = sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(_name(inputs))
        own = sql.SQL("ALTER SCHEMA {} OWNER TO {}").format(_name(inputs), sql.Identifier(inputs["owner"]))
        self._server.execute(f"create schema {inputs['name']!r}", create, own, database=inputs["database"])
        return f"{inputs['database']}.{inputs['name']}", dict(inputs)

    def update(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Properties:
        if old_inputs["name"] != new_inputs["name"]:
            rename = sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(_name(old_inputs), _name(new_inputs))
            self._server.execute(f"rename schema {old_inputs['name']!r}", rename, database=new_inputs["database"])
        return self.create(new_inputs)[1]

    def read(self, id: str, inputs: Properties, outputs: Properties) -> LiveResource | None:
        if not self._server.has_database(inputs["database"]):
            return None
        query: LiteralString = "SELECT pg_get_userbyid(nspowner) AS owner FROM pg_namespace WHERE nspname = %(name)s"
        found = self._server.row(f"read schema {inputs['name']!r}", query, inputs, inputs["database"])
        return None if found is None else LiveResource(id, {**inputs, **found}, {**inputs, **found})

    def delete(self, id: str, inputs: Properties, outputs: Properties) -> None:
        if self._server.has_database(inputs["database"]):
            drop = sql.SQL("DROP SCHEMA IF EXISTS {} RESTRICT").format(_name(inputs))
            self._server.execute(f"drop schema {inputs['name']!r}", drop, database=inputs["database"])


def _name(inputs: Properties) -> sql.Identifier:
    return sql.Identifier(inputs["name"])


_ATTRIBUTES: Final = {
    "superuser": "SUPERUSER",
    "createDatabase": "CREATEDB",
    "createRole": "CREATEROLE",
    "inherit": "INHERIT",
    "login": "LOGIN",
    "replication": "REPLICATION",
    "bypassRowLevelSecurity": "BYPASSRLS",
}


class RoleHandler(ServerHandler):
    """A role with a password, sent as a SCRAM verifier. Its id is its name."""

    pulumi_type = "postgresql:index/role:Role"
    secret_outputs = frozenset({"password"})
    fields: ClassVar[Fields] = {
        "name": REQUIRED,
        "password": Field(),
        **dict.fromkeys(("createRole", "login"), Field(kind=Kind.FLAG, default=False)),
    }
    constants: ClassVar[Properties] = {
        "connectionLimit": -1,
        "validUntil": "infinity",
        **dict.fromkeys(_ATTRIBUTES.keys() - fields, False),
        **dict.fromkeys(("skipDropRole", "skipReassignOwned"), False),
        **dict.fromkeys(("inherit", "encryptedPassword"), True),
    }

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        name = inputs["name"]

        def work(cursor: Cursor) -> None:
            exists = cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone()
            verb = sql.SQL("ALTER" if exists else "CREATE")
            cursor.execute(sql.SQL("{} ROLE {} WITH {}").format(verb, _name(inputs), _options(inputs)))

        self._server.run(f"create role {name!r}", work)
        return name, dict(inputs)

    def update(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Properties:
        def work(cursor: Cursor) -> None:
            _lock(cursor, old_inputs["name"])
            old, new = _name(old_inputs), _name(new_inputs)
            if old != new:
                cursor.execute(sql.SQL("ALTER ROLE {} RENAME TO {}").format(old, new))
            cursor.execute(sql.SQL("ALTER ROLE {} WITH {}").format(new, _options(new_inputs)))

        self._server.run(f"alter role {old_inputs['name']!r}", work)
        return dict(new_inputs)

    def read(self, id: str, inputs: Properties, outputs: Properties) -> LiveResource | None:
        name = inputs["name"]

        query: LiteralString = (
            'SELECT rolsuper AS superuser, rolcreatedb AS "createDatabase", rolcreaterole AS "createRole", '
            "rolinherit AS inherit, rolcanlogin AS login, rolreplication AS replication, "
            'rolbypassrls AS "bypassRowLevelSecurity", rolconnlimit AS "connectionLimit", '
            "COALESCE(rolvaliduntil::text, 'infinity') AS \"validUntil\" FROM pg_roles WHERE rolname = %(name)s"
        )
        found = self._server.row(f"read role {name!r}", query, inputs)
        if found is None:
            return None
        live = {**inputs, **found}
        if inputs.get("login") and inputs.get("password"):
            verifier: LiteralString = "SELECT rolpassword FROM pg_authid WHERE rolname = %(name)s"
            row = self._server.row(f"read the verifier of role {name!r}", verifier, inputs)
            if not row or not is_verifier_of(row["rolpassword"] or "", inputs["password"]):
                live.pop("password")
        return LiveResource(id, live, dict(live))

    def delete(self, id: str, inputs: Properties, outputs: Properties) -> None:
        name, role = inputs["name"], _name(inputs)

        def work(cursor: Cursor) -> None:
            if cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone():
                _lock(cursor, name)
                cursor.execute(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(role))
                cursor.execute(sql.SQL("DROP OWNED BY {}").format(role))
                cursor.execute(sql.SQL("DROP ROLE {}").format(role))

        self._server.run(f"drop role {name!r}", work)


def _lock(cursor: Cursor, name: str) -> None:
    cursor.execute("SELECT pg_advisory_xact_lock(oid::bigint) FROM pg_roles WHERE rolname = %s", [name])


def _options(inputs: Properties) -> sql.Composable:
    parts: list[sql.Composable] = [sql.SQL(word if inputs[name] else f"NO{word}") for name, word in _ATTRIBUTES.items()]
    parts.append(sql.SQL("CONNECTION LIMIT -1 VALID UNTIL 'infinity'"))
    if password := inputs.get("password"):
        # Neither the server nor its log sees the password itself.
        verifier = password if password.startswith("SCRAM-SHA-256$") else scram_verifier(inputs["name"], password)
        parts.append(sql.SQL("PASSWORD {}").format(sql.Literal(verifier)))
    return sql.SQL(" ").join(parts)
