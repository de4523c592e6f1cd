"""Registry: the central database of tenants, with its schemas, roles and grants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pulumi
import pulumi_postgresql as postgresql
import pulumi_random as random

from components.certificate_keeper import DATABASE_USER as _KEEPER
from components.migrations import Migrations
from components.postgres import PostgresContainer
from components.settings import PlatformSettings
from kryonix.certificates.trust import trust_file
from kryonix.registry.connection import (
    BACKUP_READS,
    BACKUP_WRITES,
    EXPORTER_READS,
    ROUTING_READS,
    ROUTING_TABLES,
    SCHEMA,
    SIGNUP_READS,
    SIGNUP_SCHEMA,
)
from kryonix.topology.addresses import host_port
from kryonix.topology.credentials import PASSWORD_LENGTH

DATABASE, _OWNER, _WRITER, _SIGNUP = "kryonix_main", "kryonix_migrator", "kryonix_registry", "kryonix_signup"
_READER, _BACKUP = "kryonix_exporter", "kryonix_backup"


R = TypeVar("R", bound=pulumi.Resource)


@dataclass(frozen=True, kw_only=True)
class RegistryArgs:
    """The platform's settings, and its server. The deletion of the server's volume removes database and roles.

    With TLS, `trust` is the certificates (PEM) that clients trust, and `keeper_password` that of the keeper's role.
    """

    settings: PlatformSettings
    server: PostgresContainer
    trust: pulumi.Output[str] | None = None
    keeper_password: pulumi.Output[str] | None = None


class Registry(pulumi.ComponentResource):
    """The database `kryonix_main`.

    The role of `dsn` reads and writes tenants' rows. The role of `signup_dsn` owns rows in the signup schema and reads
    desired states. The role of `reader_dsn`, where an exporter runs, reads states and operations. That of `backup_dsn`,
    where backups are made, reads all, writes their records, and makes schemas to verify bundles in. None can do more,
    and no other role may connect, but those that `kryonix router access` makes: each reads one tenant's model. All are
    plain values: resources that need the tables depend on this component.
    """

    dsn: pulumi.Output[str]
    signup_dsn: pulumi.Output[str]
    reader_dsn: pulumi.Output[str] | None = None
    backup_dsn: pulumi.Output[str] | None = None

    def __init__(self, name: str, args: RegistryArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kryonix:messaging:Registry", name, None, opts)
        host, port = args.settings.local_host, args.settings.registry_port
        self._name, self._address = name, f"{host_port(host, port)}/{DATABASE}"
        trusted = args.trust.apply(trust_file) if args.trust is not None else None
        self._query: pulumi.Input[str] = "" if trusted is None else trusted.apply(verified)
        provider = postgresql.Provider(
            f"{name}-server",
            host=host,
            port=port,
            username=args.server.username,
            password=args.server.password,
            sslmode="prefer" if trusted is None else "verify-full",
            sslrootcert=trusted,
            opts=pulumi.ResourceOptions(parent=self),
        )
        self._child = pulumi.ResourceOptions(parent=self, provider=provider, deleted_with=args.server.volume)
        self._last: list[pulumi.Resource] = []
        # The owner's functions make and drop the logins with which tenants read their models.
        owner, owner_password = self._role("migrator", _OWNER, create_role=True)
        writer, writer_password = self._role("writer", _WRITER)
        signup, signup_password = self._role("signup", _SIGNUP)
        self._database = postgresql.Database(f"{name}-database", name=DATABASE, owner=owner.name, opts=self._child)
        tenants = self._next(postgresql.Schema, "schema", name=SCHEMA, owner=owner.name)
        jobs = self._next(postgresql.Schema, "signup-schema", name=SIGNUP_SCHEMA, owner=owner.name)
        self._schemas = {SCHEMA: tenants, SIGNUP_SCHEMA: jobs}
        rows = ["DELETE", "INSERT", "SELECT", "UPDATE"]
        # Default privileges also cover the tables of later migrations.
        by_default: dict[str, Any] = {"kind": postgresql.DefaultPrivileges, "owner": owner.name}
        self._grant("use", writer.name, "schema", ["USAGE"], tenants)
        self._grant("rows", writer.name, "table", rows, tenants, **by_default)
        self._grant("signup-use", signup.name, "schema", ["USAGE"], jobs)
        self._grant("signup-rows", signup.name, "table", rows, jobs, **by_default)
        self._grant("signup-numbers", signup.name, "sequence", ["USAGE"], jobs, **by_default)
        self._grant("signup-look", signup.name, "schema", ["USAGE"], tenants)
        # PostgreSQL lets every role connect to a new database and create temporary tables. Grant the roles by name
        # before revoking that; the owner needs no grant.
        self._grant("connect", writer.name, "database", ["CONNECT"])
        self._grant("signup-connect", signup.name, "database", ["CONNECT"])
        self._grant("nobody-else", "public", "database", [])
        migrations = Migrations(
            f"{name}-migrations",
            dsn=self._dsn(_OWNER, owner_password),
            database=self._database.name,
            opts=pulumi.ResourceOptions(parent=self, depends_on=self._last),
        )
        self._last = [migrations]  # the signup service reads tenants once their tables exist
        self._grant("signup-reads", signup.name, "table", ["SELECT"], tenants, objects=list(SIGNUP_READS))
        if args.settings.product.runs:
            self._reader()
        if args.settings.backup is not None:
            self._backup()
        if args.keeper_password is not None:
            self._keeper(args.keeper_password)
        self.dsn, self.signup_dsn = self._dsn(_WRITER, writer_password), self._dsn(_SIGNUP, signup_password)
        self.register_outputs({"dsn": self.dsn, "signup_dsn": self.signup_dsn})

    def _reader(self) -> None:
        """Make the exporter's role."""
        reader, password = self._role("reader", _READER)
        self._grant("reader-connect", reader.name, "database", ["CONNECT"])
        self._reads("reader", reader, EXPORTER_READS)
        # A grant of its own: with other objects, the one above would be replaced, and the old one revoked last.
        records = list(BACKUP_WRITES)
        self._grant("reader-reads-backups", reader.name, "table", ["SELECT"], self._schemas[SCHEMA], objects=records)
        modes = list(ROUTING_READS)
        self._grant("reader-reads-routing", reader.name, "table", ["SELECT"], self._schemas[SCHEMA], objects=modes)
        self.reader_dsn = self._dsn(_READER, password)

    def _backup(self) -> None:
        """Make the role of the scheduled backups."""
        role, password = self._role("backup", _BACKUP)
        self._grant("backup-connect", role.name, "database", ["CONNECT", "CREATE"])
        self._reads("backup", role, BACKUP_READS)
        rows = ["DELETE", "INSERT", "SELECT", "UPDATE"]
        self._grant("backup-writes", role.name, "table", rows, self._schemas[SCHEMA], objects=list(BACKUP_WRITES))
        routing = list(ROUTING_TABLES)
        self._grant("backup-reads-routing", role.name, "table", ["SELECT"], self._schemas[SCHEMA], objects=routing)
        self.backup_dsn = self._dsn(_BACKUP, password)

    def _keeper(self, password: pulumi.Output[str]) -> None:
        """Make the role that may let the server load a renewed certificate, and nothing else."""
        role = postgresql.Role(f"{self._name}-keeper", name=_KEEPER, login=True, password=password, opts=self._child)
        self._grant("keeper-connect", role.name, "database", ["CONNECT"])
        self._grant("keeper-reloads", role.name, "function", ["EXECUTE"], "pg_catalog", objects=["pg_reload_conf"])

    def _reads(self, short: str, role: postgresql.Role, tables: Mapping[str, Sequence[str]]) -> None:
        """Let a role read tables, given by schema."""
        for name, schema in self._schemas.items():
            self._grant(f"{short}-look-{name}", role.name, "schema", ["USAGE"], schema)
            self._grant(f"{short}-reads-{name}", role.name, "table", ["SELECT"], schema, objects=list(tables[name]))

    def _role(
        self, short: str, name: str, *, create_role: bool | None = None
    ) -> tuple[postgresql.Role, pulumi.Output[str]]:
        opts = pulumi.ResourceOptions(parent=self)
        password = random.RandomPassword(f"{self._name}-{short}", length=PASSWORD_LENGTH, special=False, opts=opts)
        role = postgresql.Role(
            f"{self._name}-{short}",
            name=name,
            login=True,
            password=password.result,
            opts=self._child,
            create_role=create_role,
        )
        return role, password.result

    def _next(self, kind: Callable[..., R], short: str, **inputs: Any) -> R:
        """Create a resource in the database after the previous one.

        A grant rewrites the schema's one row of privileges. PostgreSQL refuses the second of two concurrent writes
        ("tuple concurrently updated"), and the provider plugin does not retry.
        """
        after = pulumi.ResourceOptions.merge(self._child, pulumi.ResourceOptions(depends_on=self._last))
        made = kind(f"{self._name}-{short}", database=self._database.name, opts=after, **inputs)
        self._last = [made]
        return made

    def _grant(
        self,
        short: str,
        role: pulumi.Input[str],
        object_type: str,
        privileges: list[str],
        schema: postgresql.Schema | str | None = None,
        kind: Callable[..., pulumi.Resource] = postgresql.Grant,
        **inputs: Any,
    ) -> None:
        inputs |= {"role": role, "object_type": object_type, "privileges": privileges}
        self._next(kind, short, schema=schema.name if isinstance(schema, postgresql.Schema) else schema, **inputs)

    def _dsn(self, role: str, password: pulumi.Output[str]) -> pulumi.Output[str]:
        every = pulumi.Output.all(password, self._query)
        return every.apply(lambda known: f"postgresql://{role}:{known[0]}@{self._address}{known[1]}")


def verified(trust: str) -> str:
    """Return the query of a DSN whose client verifies the server by the certificates in a file."""
    return f"?sslmode=verify-full&sslrootcert={trust}"
