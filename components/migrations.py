"""Migrations: the registry's tables, at this release's revision."""

from __future__ import annotations

from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, ResourceProvider, UpdateResult

from components.errors import registry_errors
from kryonix.registry.schema import current, head, upgrade


class _MigrationsProvider(ResourceProvider):
    # The pickled provider is a reference to this class and holds no secret; `dsn` is one.
    serialize_as_secret_always = False

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        return DiffResult(changes=any(_olds.get(key) != _news[key] for key in ("dsn", "revision", "database")))

    def create(self, props: dict[str, Any]) -> CreateResult:
        _upgrade(props)
        return CreateResult(props["database"], props)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        _upgrade(_news)
        return UpdateResult(_news)

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        with registry_errors():
            found = current(props["dsn"])
        return ReadResult(id_, {**props, "revision": found}) if found else ReadResult("", {})  # no id: deleted

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        """Do nothing: the tables are deleted with their database only, so history is never dropped before."""


def _upgrade(props: dict[str, Any]) -> None:
    with registry_errors():
        upgrade(props["dsn"], props["revision"])


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
        properties = {"dsn": pulumi.Output.secret(dsn), "database": database, "revision": head()}
        super().__init__(_MigrationsProvider(), name, properties, opts)
