"""Registry: the central database of tenants, its schema, its roles and what each may do."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_postgresql as postgresql
import pulumi_random as random

from components.migrations import Migrations
from kryonix.registry.schema import SCHEMA
from kryonix.topology.credentials import PASSWORD_LENGTH

__all__ = ["Registry", "RegistryArgs"]

_DATABASE, _OWNER, _WRITER = "kryonix_main", "kryonix_migrator", "kryonix_registry"


@dataclass(frozen=True, kw_only=True)
class RegistryArgs:
    """The server, and a user of it that may make databases and roles.

    `deleted_with` is the server's own resource where this stack runs it: its removal takes database and roles along. A
    server that stays keeps its schema while there are tables in it, so that history is never dropped on the way.
    """

    host: str
    port: int
    username: str
    password: pulumi.Input[str]
    deleted_with: pulumi.Resource | None = None


class Registry(pulumi.ComponentResource):
    """The database `kryonix_main`. `dsn` is that of a role that reads and writes tenants' rows, and can't do more."""

    dsn: pulumi.Output[str]

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
        owner, owner_password = self._role("migrator", _OWNER)
        writer, writer_password = self._role("writer", _WRITER)
        database = postgresql.Database(f"{name}-database", name=_DATABASE, owner=owner.name, opts=self._child)
        schema = postgresql.Schema(
            f"{name}-schema", name=SCHEMA, database=database.name, owner=owner.name, opts=self._child
        )
        granted = self._grants(database, schema, owner, writer)
        migrations = Migrations(
            f"{name}-migrations",
            dsn=self._dsn(owner.name, owner_password, database.name),
            database=database.name,
            opts=pulumi.ResourceOptions(parent=self, depends_on=granted),
        )
        # The address is given out once there are tables behind it.
        self.dsn = migrations.revision.apply(lambda _: self._dsn(writer.name, writer_password, database.name))
        self.register_outputs({"dsn": self.dsn})

    def _role(self, short: str, name: str) -> tuple[postgresql.Role, pulumi.Output[str]]:
        opts = pulumi.ResourceOptions(parent=self)
        password = random.RandomPassword(f"{self._name}-{short}", length=PASSWORD_LENGTH, special=False, opts=opts)
        role = postgresql.Role(
            f"{self._name}-{short}", name=name, login=True, password=password.result, opts=self._child
        )
        return role, password.result

    def _grants(
        self,
        database: postgresql.Database,
        schema: postgresql.Schema,
        owner: postgresql.Role,
        writer: postgresql.Role,
    ) -> list[pulumi.Resource]:
        use = postgresql.Grant(
            f"{self._name}-use",
            database=database.name,
            schema=schema.name,
            role=writer.name,
            object_type="schema",
            privileges=["USAGE"],
            opts=self._child,
        )
        # Default privileges, so that a later migration's tables are covered without a change here.
        rows = postgresql.DefaultPrivileges(
            f"{self._name}-rows",
            database=database.name,
            schema=schema.name,
            owner=owner.name,
            role=writer.name,
            object_type="table",
            privileges=["DELETE", "INSERT", "SELECT", "UPDATE"],
            opts=self._child,
        )
        return [use, rows]

    def _dsn(
        self, user: pulumi.Input[str], password: pulumi.Input[str], database: pulumi.Input[str]
    ) -> pulumi.Output[str]:
        address = f"{self._args.host}:{self._args.port}"
        return pulumi.Output.format("postgresql://{0}:{1}@{2}/{3}", user, password, address, database)
