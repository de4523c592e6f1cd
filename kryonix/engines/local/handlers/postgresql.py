"""PostgreSQL: the package's provider, and the handlers of databases and schemas."""

from __future__ import annotations

from typing import Any, ClassVar

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from kryonix.engines.local.errors import ApplyFailed
from kryonix.engines.local.handlers.base import Live, Properties
from kryonix.engines.local.handlers.fields import Field, Fields, Kind
from kryonix.engines.local.handlers.postgres_privileges import DefaultPrivileges, Grant
from kryonix.engines.local.handlers.postgres_roles import Role
from kryonix.engines.local.handlers.postgres_server import Server, server
from kryonix.engines.local.handlers.resource import HandlerTable, Resource

__all__ = ["Database", "Schema", "provider"]


def provider(config: Properties) -> HandlerTable:
    """The handlers of package postgresql on the server that `config` or the PG* environment names."""
    on = server(config)
    return HandlerTable.of(
        "postgresql", [handler(on) for handler in (Database, Schema, Role, Grant, DefaultPrivileges)]
    )


class Database(Resource):
    """A database. Its id is its name."""

    pulumi_type = "postgresql:index/database:Database"
    fields: ClassVar[Fields] = {
        "name": Field(required=True),
        "owner": Field(),
        "template": Field(replaces=True),
        "encoding": Field(replaces=True),
        "lcCollate": Field(replaces=True),
        "lcCtype": Field(replaces=True),
        "tablespaceName": Field(),
        "connectionLimit": Field(kind=Kind.WHOLE, default=-1),
        "allowConnections": Field(kind=Kind.FLAG, default=True),
        "isTemplate": Field(kind=Kind.FLAG),
        "alterObjectOwnership": Field(kind=Kind.FLAG, default=False),
    }

    def __init__(self, on: Server) -> None:
        self._server = on

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        name = inputs["name"]
        if self._server.has_database(name):
            self._adopt(name, inputs)
        else:
            statement = _create_database(inputs, self._server.username)
            self._server.run(f"create database {name!r}", lambda cursor: cursor.execute(statement), autocommit=True)
        return name, self._outputs(inputs)

    def _adopt(self, name: str, inputs: Properties) -> None:
        """Take over the empty database a killed run left; one that holds anything is somebody's."""

        def tables(cursor: psycopg.Cursor) -> int:
            row = cursor.execute(
                "SELECT count(*) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace "
                "WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f') "
                "AND nspname !~ '^pg_' AND nspname <> 'information_schema'"
            ).fetchone()
            return int(row[0]) if row else 0

        count = self._server.run(f"look into database {name!r}", tables, database=name)
        if count:
            raise ApplyFailed(
                f"there is a database {name!r} already, and it holds {count} tables, views or sequences, so it was not "
                "made by this stack. Give this one another name, or drop the other."
            )
        self._alter(name, inputs)

    def update(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Properties:
        old, new = old_inputs["name"], new_inputs["name"]
        if old != new:
            rename = sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new))
            self._server.run(f"rename database {old!r}", lambda cursor: cursor.execute(rename))
        if new_inputs.get("owner") and new_inputs["alterObjectOwnership"]:
            self._reassign(new, new_inputs["owner"])
        self._alter(new, new_inputs)
        return self._outputs(new_inputs)

    def read(self, id: str, inputs: Properties, outputs: Properties) -> Live | None:
        found = self._found(inputs.get("name", id))
        if found is None:
            return None
        live = {**inputs, **{key: value for key, value in found.items() if key in inputs}}
        return Live(id, live, {"template": "template0", **live, **found})

    def delete(self, id: str, inputs: Properties, outputs: Properties) -> None:
        name = inputs.get("name", id)

        def drop(cursor: psycopg.Cursor) -> None:
            if inputs.get("isTemplate") and self._server.has_database(name):
                cursor.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE false").format(sql.Identifier(name)))
            cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

        self._server.run(f"drop database {name!r}", drop, autocommit=True)

    def _alter(self, name: str, inputs: Properties) -> None:
        database = sql.Identifier(name)
        options = {
            "OWNER TO {}": sql.Identifier(inputs["owner"]) if inputs.get("owner") else None,
            "SET TABLESPACE {}": sql.Identifier(inputs["tablespaceName"]) if inputs.get("tablespaceName") else None,
            "CONNECTION LIMIT {}": sql.Literal(inputs["connectionLimit"]),
            "ALLOW_CONNECTIONS {}": sql.Literal(inputs["allowConnections"]),
            "IS_TEMPLATE {}": sql.Literal(inputs["isTemplate"]) if "isTemplate" in inputs else None,
        }

        def work(cursor: psycopg.Cursor) -> None:
            for option, value in options.items():
                if value is not None:
                    cursor.execute(sql.SQL("ALTER DATABASE {} ").format(database) + sql.SQL(option).format(value))

        self._server.run(f"alter database {name!r}", work, autocommit=True)

    def _reassign(self, name: str, owner: str) -> None:
        found = self._found(name)
        if found is None or found["owner"] == owner:
            return
        statement = sql.SQL("REASSIGN OWNED BY {} TO {}").format(sql.Identifier(found["owner"]), sql.Identifier(owner))
        self._server.run(
            f"give what is in database {name!r} to {owner!r}", lambda c: c.execute(statement), database=name
        )

    def _outputs(self, inputs: Properties) -> Properties:
        found = self._found(inputs["name"]) or {}
        return {**found, "template": "template0", **inputs}

    def _found(self, name: str) -> Properties | None:
        def select(cursor: psycopg.Cursor) -> Properties | None:
            rows = cursor.connection.cursor(row_factory=dict_row).execute(
                "SELECT datname AS name, pg_get_userbyid(datdba) AS owner, pg_encoding_to_char(encoding) AS encoding, "
                'datcollate AS "lcCollate", datctype AS "lcCtype", spcname AS "tablespaceName", '
                'datconnlimit AS "connectionLimit", datallowconn AS "allowConnections", datistemplate AS "isTemplate" '
                "FROM pg_database JOIN pg_tablespace t ON t.oid = dattablespace WHERE datname = %s",
                [name],
            )
            return rows.fetchone()

        return self._server.run(f"read database {name!r}", select)


def _create_database(inputs: Properties, user: str) -> sql.Composed:
    def named(option: str, value: str) -> sql.Composable:
        return sql.SQL(option) + (sql.SQL("DEFAULT") if value.upper() == "DEFAULT" else sql.Identifier(value))

    def text(option: str, value: str) -> sql.Composable:
        return sql.SQL(option) + (sql.SQL("DEFAULT") if value.upper() == "DEFAULT" else sql.Literal(value))

    parts = [
        sql.SQL("CREATE DATABASE {}").format(sql.Identifier(inputs["name"])),
        sql.SQL("OWNER {}").format(sql.Identifier(inputs.get("owner") or user)),
        named("TEMPLATE ", inputs.get("template") or "template0"),
        text("ENCODING ", inputs.get("encoding") or "UTF8"),
        sql.SQL("ALLOW_CONNECTIONS {}").format(sql.Literal(inputs["allowConnections"])),
        sql.SQL("CONNECTION LIMIT {}").format(sql.Literal(inputs["connectionLimit"])),
        sql.SQL("IS_TEMPLATE {}").format(sql.Literal(inputs.get("isTemplate", False))),
    ]
    parts += [
        text(f"{o} ", inputs[key])
        for key, o in (("lcCollate", "LC_COLLATE"), ("lcCtype", "LC_CTYPE"))
        if inputs.get(key)
    ]
    if inputs.get("tablespaceName"):
        parts.append(named("TABLESPACE ", inputs["tablespaceName"]))
    return sql.SQL(" ").join(parts)


class Schema(Resource):
    """A schema in a database. Its id is `database.schema`."""

    pulumi_type = "postgresql:index/schema:Schema"
    fields: ClassVar[Fields] = {
        "name": Field(required=True),
        "database": Field(replaces=True),
        "owner": Field(),
        "ifNotExists": Field(kind=Kind.FLAG, default=True),
        "dropCascade": Field(kind=Kind.FLAG, default=False),
    }

    def __init__(self, on: Server) -> None:
        self._server = on

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        name, owner = inputs["name"], inputs.get("owner")
        statements = [sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(name))]
        if owner:
            statements.append(_owned(name, owner))
        self._run(inputs, f"create schema {name!r}", statements)
        return f"{self._database(inputs)}.{name}", self._outputs(inputs)

    def update(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Properties:
        old, new, owner = old_inputs["name"], new_inputs["name"], new_inputs.get("owner")
        statements = []
        if old != new:
            statements.append(sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new)))
        if owner:
            statements.append(_owned(new, owner))
        self._run(new_inputs, f"alter schema {new!r}", statements)
        return self._outputs(new_inputs)

    def read(self, id: str, inputs: Properties, outputs: Properties) -> Live | None:
        owner = self._owner(inputs)
        if owner is None:
            return None
        live = {**inputs, "owner": owner} if inputs.get("owner") else dict(inputs)
        return Live(id, live, {"database": self._database(inputs), "owner": owner, **live})

    def delete(self, id: str, inputs: Properties, outputs: Properties) -> None:
        if not self._server.has_database(self._database(inputs)):
            return
        mode = "CASCADE" if inputs.get("dropCascade") else "RESTRICT"
        drop = sql.SQL("DROP SCHEMA IF EXISTS {} ").format(sql.Identifier(inputs["name"])) + sql.SQL(mode)
        self._run(inputs, f"drop schema {inputs['name']!r}", [drop])

    def _run(self, inputs: Properties, doing: str, statements: list[Any]) -> None:
        def work(cursor: psycopg.Cursor) -> None:
            for statement in statements:
                cursor.execute(statement)

        self._server.run(doing, work, database=self._database(inputs))

    def _outputs(self, inputs: Properties) -> Properties:
        return {"database": self._database(inputs), "owner": self._owner(inputs), **inputs}

    def _owner(self, inputs: Properties) -> str | None:
        name, database = inputs["name"], self._database(inputs)
        if not self._server.has_database(database):
            return None

        def select(cursor: psycopg.Cursor) -> str | None:
            query = "SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = %s"
            row = cursor.execute(query, [name]).fetchone()
            return str(row[0]) if row else None

        return self._server.run(f"read schema {name!r}", select, database=database)

    def _database(self, inputs: Properties) -> str:
        return str(inputs.get("database") or self._server.default_database())


def _owned(name: str, owner: str) -> sql.Composed:
    return sql.SQL("ALTER SCHEMA {} OWNER TO {}").format(sql.Identifier(name), sql.Identifier(owner))
