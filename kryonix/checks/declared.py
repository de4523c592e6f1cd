"""The tenants that a stack declares, from its deployment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kryonix.registry.rows import STATUS_NAMES
from kryonix.topology.tenants import Tenant

_RECORD: Final = "kryonix:TenantRecord"
_SAFEGUARDS: Final = "kryonix:Safeguards"
_USER: Final = "rabbitmq:index/user:User"
_STATUSES: Final[Mapping[str, Any]] = {value: key for key, value in STATUS_NAMES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A tenant as the last run of its stack declared it. `users` are those of every generation of credentials."""

    tenant: Tenant
    stack: str
    username: str
    users: tuple[str, ...]
    protected: bool
    mend: str
    """The command to repair the tenant."""
    password: str | None = field(default=None, repr=False)
    client_certificate: str = ""
    """That of the current user (PEM), if the tenant logs in with one."""
    client_key: str = field(default="", repr=False)

    def password_of(self, user: str) -> str | None:
        """Return a current user's password: empty if it logs in with a certificate, None if it is not known."""
        certified = self.tenant.auth == "certificate" and user == self.username
        return "" if certified and self.password is not None else self.password


def declared_tenants(
    stack: str, deployment: Mapping[str, Any], outputs: Mapping[str, Any], mend: Mapping[str, str]
) -> Iterator[Declared]:
    """Yield the tenants of a stack. `mend` are commands by tenant; the default is `refresh` and `up` of the stack."""
    resources = (deployment.get("deployment") or {}).get("resources") or []
    kept = [resource for resource in resources if not resource.get("delete")]
    users = [each["inputs"]["name"] for each in kept if each["type"] == _USER]
    protection = {
        each["inputs"]["vhost"]: bool(each["inputs"].get("protected"))
        for each in kept
        if each["type"].endswith(_SAFEGUARDS)
    }
    for record in (each["inputs"] for each in kept if each["type"].endswith(_RECORD)):
        id, first = record["clienteId"], f"kryonix_{record['clienteId']}"
        made = (outputs.get("tenants") or {}).get(id) or {}
        yield Declared(
            tenant=Tenant(
                id=id,
                modules=record["modulos"],
                plan=record["plano"],
                status=_STATUSES[record["status"]],
                auth=made.get("auth", "password"),
            ),
            stack=stack,
            username=record["username"],
            users=tuple(sorted(name for name in users if name == first or name.startswith(f"{first}."))),
            protected=protection.get(record["vhost"], False),
            mend=mend.get(id, f"kryonix refresh --stack {stack} && kryonix up --stack {stack}"),
            password=made.get("password"),
            client_certificate=str(made.get("client_certificate") or ""),
            client_key=str(made.get("client_key") or ""),
        )
