"""TenantRecord: a tenant's rows in the registry."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

import pulumi
from pulumi.dynamic import ReadResult, Resource

from components.accepting_provider import ApplyingProvider
from components.errors import registry_errors
from kryonix.registry.connection import connect
from kryonix.registry.errors import RegistryNotMade
from kryonix.registry.rows import STATUS_NAMES, TenantRow, fetch_tenants, put_tenant, retire_tenant
from kryonix.topology.tenants import Tenant

_COLUMNS: Final = {name: name for name in ("vhost", "plano", "status", "username")} | {"passwordHash": "password_hash"}
"""The row's column of each property. Three more, `clienteId`, `modulos` and the optional `notify`, have other types."""


class _TenantRecordProvider(ApplyingProvider):
    id_property = "clienteId"
    replaced_by = ("clienteId",)
    optional = ("notify",)

    def apply(self, props: dict[str, Any]) -> None:
        columns = {column: props[key] for key, column in _COLUMNS.items()}
        modules, notify = tuple(props["modulos"]), props.get("notify")
        row = TenantRow(cliente_id=props["clienteId"], modulos=modules, notify=notify, **columns)
        with registry_errors(), connect(props["dsn"]) as connection:
            put_tenant(connection, row)

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        found: list[TenantRow] = []
        with registry_errors(), suppress(RegistryNotMade), connect(props["dsn"]) as connection:
            found = fetch_tenants(connection, id_)
        if not found or found[0].status == "removido":
            return ReadResult("", {})  # no id: deleted
        live = {key: getattr(found[0], column) or "" for key, column in _COLUMNS.items()}
        notify = {"notify": found[0].notify} if found[0].notify or "notify" in props else {}
        return ReadResult(id_, {**props, **live, **notify, "modulos": list(found[0].modulos)})

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        with registry_errors(), connect(self.found_registry(_props["dsn"])) as connection:
            retire_tenant(connection, _props["clienteId"])


class TenantRecord(Resource, module="kryonix", name="TenantRecord"):
    """One tenant's rows. After the removal the status is `removido`, and the credentials are deleted."""

    def __init__(
        self,
        name: str,
        *,
        registry_dsn: pulumi.Input[str],
        tenant: Tenant,
        username: pulumi.Input[str],
        password_hash: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        properties: dict[str, Any] = {
            "dsn": pulumi.Output.secret(registry_dsn),
            "clienteId": tenant.id,
            "vhost": tenant.names.vhost,
            "modulos": list(tenant.modules),
            "plano": tenant.plan,
            "status": STATUS_NAMES[tenant.status],
            "username": username,
            "passwordHash": pulumi.Output.secret(password_hash),
        }
        if tenant.notify is not None:  # a webhook may hold a token
            properties["notify"] = pulumi.Output.secret(tenant.notify.plain())
        super().__init__(_TenantRecordProvider(), name, properties, opts)
