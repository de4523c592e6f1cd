"""Registry: the central database of tenants, with its schemas, roles and grants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import pulumi
import pulumi_postgresql as postgresql
import pulumi_random as random

from components.migrations import Migrations
from kryonix.registry.schema import SCHEMA, SIGNUP_READS, SIGNUP_SCHEMA
from kryonix.topology.credentials import PASSWORD_LENGTH

_R = TypeVar("_R", bound=pulumi.Resource)
_DATABASE, _OWNER, _WRITER, _SIGNUP = "kryonix_main", "kryonix_migrator", "kryonix_registry", "kryonix_signup"


@dataclass(frozen=True, kw_only=True)
class RegistryArgs:
    """The server, and a user that may create databases and roles.

    `deleted_with` is the volume of this stack's own server: its deletion removes database and roles. A server that
    stays keeps a schema with tables, so history is never dropped.
    """

    host: str
    port: int
    username: str
    password: pulumi.Input[str]
    deleted_with: pulumi.Resource | None = None


class Registry(pulumi.ComponentResource):
    """The database `kryonix_main`.

    The role of `dsn` reads and writes tenants' rows. The role of `signup_dsn` owns rows in the signup schema and reads
    desired states. Neither can do more, and no other role may connect. Both are plain values: resources that need the
    tables depend on this component.
    """

    dsn: pulumi.Output[str]
    signup_dsn: pulumi.Output[str]

    def __init__(self, name: str, args: RegistryArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kryonix:messaging:Registry", name, None, opts)
        self._name, self._args = name, args
        provider = postgresql.Provider(
            f"{name}-server",
            host=args.host,
            port=args.port,
            username=args.username,
            password=args.password,
            sslmode="prefer",
            opts=pulumi.ResourceOptions(parent=self),
        )
        self._child = pulumi.ResourceOptions(parent=self, provider=provider, deleted_with=args.deleted_with)
        self._made: list[pulumi.Resource] = []
        self._owner, owner_password = self._role("migrator", _OWNER)
        writer, writer_password = self._role("writer", _WRITER)
        signup, signup_password = self._role("signup", _SIGNUP)
        self._database = postgresql.Database(
            f"{name}-database", name=_DATABASE, owner=self._owner.name, opts=self._child
        )
        tenants, jobs = self._schema("schema", SCHEMA), self._schema("signup-schema", SIGNUP_SCHEMA)
        # Default privileges also cover the tables of later migrations.
        self._grant("use", tenants, writer)
        self._defaults("rows", tenants, writer, "table", ["DELETE", "INSERT", "SELECT", "UPDATE"])
        self._grant("signup-use", jobs, signup)
        self._defaults("signup-rows", jobs, signup, "table", ["DELETE", "INSERT", "SELECT", "UPDATE"])
        self._defaults("signup-numbers", jobs, signup, "sequence", ["USAGE"])
        self._grant("signup-look", tenants, signup)
        # PostgreSQL lets every role connect to a new database and create temporary tables. Grant the roles by name
        # before revoking that; the owner needs no grant.
        self._connect("connect", writer.name, ["CONNECT"])
        self._connect("signup-connect", signup.name, ["CONNECT"])
        self._connect("nobody-else", "public", [])
        migrations = Migrations(
            f"{name}-migrations",
            dsn=self._dsn(_OWNER, owner_password),
            database=self._database.name,
            opts=pulumi.ResourceOptions(parent=self, depends_on=self._made[-1:]),
        )
        self._reads(tenants, signup, migrations)
        self.dsn, self.signup_dsn = self._dsn(_WRITER, writer_password), self._dsn(_SIGNUP, signup_password)
        self.register_outputs({"dsn": self.dsn, "signup_dsn": self.signup_dsn})

    def _in_turn(self, make: Callable[[pulumi.ResourceOptions], _R]) -> _R:
        """Create a resource after the previous one.

        A grant rewrites the schema's one row of privileges. PostgreSQL refuses the second of two concurrent writes
        ("tuple concurrently updated"), and the provider plugin does not retry.
        """
        after = pulumi.ResourceOptions(depends_on=self._made[-1:])
        made = make(pulumi.ResourceOptions.merge(self._child, after))
        self._made.append(made)
        return made

    def _role(self, short: str, name: str) -> tuple[postgresql.Role, pulumi.Output[str]]:
        opts = pulumi.ResourceOptions(parent=self)
        password = random.RandomPassword(f"{self._name}-{short}", length=PASSWORD_LENGTH, special=False, opts=opts)
        role = postgresql.Role(
            f"{self._name}-{short}", name=name, login=True, password=password.result, opts=self._child
        )
        return role, password.result

    def _schema(self, short: str, name: str) -> postgresql.Schema:
        return self._in_turn(
            lambda opts: postgresql.Schema(
                f"{self._name}-{short}",
                name=name,
                database=self._database.name,
                owner=self._owner.name,
                opts=opts,
            )
        )

    def _grant(self, short: str, schema: postgresql.Schema, role: postgresql.Role) -> postgresql.Grant:
        return self._in_turn(
            lambda opts: postgresql.Grant(
                f"{self._name}-{short}",
                database=self._database.name,
                schema=schema.name,
                role=role.name,
                object_type="schema",
                privileges=["USAGE"],
                opts=opts,
            )
        )

    def _connect(self, short: str, role: pulumi.Input[str], privileges: list[str]) -> postgresql.Grant:
        return self._in_turn(
            lambda opts: postgresql.Grant(
                f"{self._name}-{short}",
                database=self._database.name,
                role=role,
                object_type="database",
                privileges=privileges,
                opts=opts,
            )
        )

    def _reads(self, schema: postgresql.Schema, role: postgresql.Role, migrations: pulumi.Resource) -> postgresql.Grant:
        """Let the signup service's role read tenants, once the tables exist."""
        return postgresql.Grant(
            f"{self._name}-signup-reads",
            database=self._database.name,
            schema=schema.name,
            role=role.name,
            object_type="table",
            objects=list(SIGNUP_READS),
            privileges=["SELECT"],
            opts=pulumi.ResourceOptions.merge(self._child, pulumi.ResourceOptions(depends_on=[migrations])),
        )

    def _defaults(
        self, short: str, schema: postgresql.Schema, role: postgresql.Role, object_type: str, privileges: list[str]
    ) -> postgresql.DefaultPrivileges:
        return self._in_turn(
            lambda opts: postgresql.DefaultPrivileges(
                f"{self._name}-{short}",
                database=self._database.name,
                schema=schema.name,
                owner=self._owner.name,
                role=role.name,
                object_type=object_type,
                privileges=privileges,
                opts=opts,
            )
        )

    def _dsn(self, role: str, password: pulumi.Output[str]) -> pulumi.Output[str]:
        address = f"{self._args.host}:{self._args.port}/{_DATABASE}"
        return password.apply(lambda known: f"postgresql://{role}:{known}@{address}")
