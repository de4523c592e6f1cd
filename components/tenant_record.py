"""TenantRecord: a tenant's rows in the registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import pulumi
from psycopg import pq
from pulumi.dynamic import (
    ConfigureRequest,
    CreateResult,
    DiffResult,
    ReadResult,
    Resource,
    ResourceProvider,
    UpdateResult,
)

from components.accepting_provider import changed_keys
from components.current_address import CurrentAddress
from components.errors import registry_errors
from components.registry_check import ping
from kryonix.registry.connection import connect
from kryonix.registry.rows import STATUS_NAMES, TenantRow, fetch_tenants, put_tenant, retire_tenant
from kryonix.topology.tenants import Tenant

_COLUMNS: Final = {name: name for name in ("vhost", "plano", "status", "username")} | {"passwordHash": "password_hash"}
"""The row's column of each property. Two more, `clienteId` and `modulos`, have other types."""


@dataclass(frozen=True, kw_only=True)
class TenantRecordArgs:
    """The rows' content, and the registry's address."""

    registry_dsn: pulumi.Input[str]
    tenant: Tenant
    username: pulumi.Input[str]
    password_hash: pulumi.Input[str]

    def properties(self) -> dict[str, Any]:
        return {
            "dsn": pulumi.Output.secret(self.registry_dsn),
            "clienteId": self.tenant.id,
            "vhost": self.tenant.names.vhost,
            "modulos": list(self.tenant.modules),
            "plano": self.tenant.plan,
            "status": STATUS_NAMES[self.tenant.status],
            "username": self.username,
            "passwordHash": pulumi.Output.secret(self.password_hash),
        }


class _TenantRecordProvider(ResourceProvider):
    # The pickled provider is a reference to this class and holds no secret; the secrets are properties.
    serialize_as_secret_always = False
    _current: CurrentAddress | None = None

    def configure(self, req: ConfigureRequest) -> None:
        self._current = CurrentAddress.of(req.config)

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        changed = changed_keys(_olds, _news)
        return DiffResult(changes=bool(changed), replaces=[key for key in changed if key == "clienteId"])

    def create(self, props: dict[str, Any]) -> CreateResult:
        self._put(props)
        return CreateResult(props["clienteId"], props)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        self._put(_news)
        return UpdateResult(_news)

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        with registry_errors(), connect(props["dsn"]) as connection:
            found = fetch_tenants(connection, id_)
        if not found or found[0].status == "removido":
            return ReadResult("", {})  # no id: deleted
        live = {key: getattr(found[0], column) or "" for key, column in _COLUMNS.items()}
        return ReadResult(id_, {**props, **live, "modulos": list(found[0].modulos)})

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        with registry_errors(), connect(self._found(_props["dsn"])) as connection:
            retire_tenant(connection, _props["clienteId"])

    def _found(self, dsn: str) -> str:
        """Return the registry's current address: the run that deletes a record may have moved it."""
        if self._current is None:
            return dsn
        moved = self._current.registry(dsn)
        return moved if ping(moved) == pq.Ping.OK else dsn

    def _put(self, props: dict[str, Any]) -> None:
        columns = {column: props[key] for key, column in _COLUMNS.items()}
        row = TenantRow(cliente_id=props["clienteId"], modulos=tuple(props["modulos"]), **columns)
        with registry_errors(), connect(props["dsn"]) as connection:
            put_tenant(connection, row)


class TenantRecord(Resource, module="kryonix", name="TenantRecord"):
    """One tenant's rows. After the removal the status is `removido`, and the credentials are deleted."""

    def __init__(self, name: str, args: TenantRecordArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(_TenantRecordProvider(), name, args.properties(), opts)
