"""Migrations: the registry's tables, at this release's revision."""

from __future__ import annotations

from typing import Any

import pulumi
from pulumi.dynamic import ReadResult, Resource

from components.accepting_provider import ApplyingProvider
from components.errors import registry_errors
from kryonix.registry.migrations.versions import NEWEST


class _MigrationsProvider(ApplyingProvider):
    id_property = "database"

    def apply(self, props: dict[str, Any]) -> None:
        from kryonix.registry.schema import upgrade  # imports alembic

        with registry_errors():
            upgrade(props["dsn"], props["revision"])

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        from kryonix.registry.schema import current

        with registry_errors():
            found = current(props["dsn"])
        return ReadResult(id_, {**props, "revision": found}) if found else ReadResult("", {})  # no id: deleted

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        """Do nothing: the tables are deleted with their database only, so history is never dropped before."""


class Migrations(Resource, module="kryonix", name="Migrations"):
    """Run alembic when the head revision changes."""

    revision: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        *,
        dsn: pulumi.Input[str],
        database: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        properties = {"dsn": pulumi.Output.secret(dsn), "database": database, "revision": NEWEST}
        super().__init__(_MigrationsProvider(), name, properties, opts)
