"""Credentials of a tenant's applications."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from kryonix.engines.engine import Engine, StackSpec
from kryonix.tenants.errors import NoCredentials
from kryonix.topology.addresses import PLATFORM_ADDRESSES
from kryonix.topology.naming import TENANT_STACK, Names, stats_user

_ADDRESSES: Final = ("amqp_addresses", "ca_certificate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A tenant's current user. Never stored or logged in plain text.

    With a certificate (PEM, with its key) the password is that of the user for figures only.
    """

    vhost: str
    username: str
    password: str = field(repr=False)
    amqp_uri: str = field(repr=False)
    client_certificate: str = ""
    client_key: str = field(default="", repr=False)
    amqp_addresses: Sequence[str] = ()
    """`host:port` of each of the broker's nodes. The URI names the first."""
    ca_certificate: str = ""
    """The CAs to trust (PEM); empty without TLS."""

    @classmethod
    def of(cls, entry: Mapping[str, Any], outputs: Mapping[str, Any] | None = None) -> Credentials:
        """Read a tenant's entry in the stack outputs, and the addresses in these."""
        fields = ("vhost", "username", "password", "amqp_uri")
        certificate = {name: entry.get(name, "") for name in ("client_certificate", "client_key")}
        addresses = {name: found for name in _ADDRESSES if (found := (outputs or {}).get(name))}
        return cls(**{name: entry[name] for name in fields}, **certificate, **addresses)

    @property
    def passwords(self) -> dict[str, str]:
        """Return the password of each of the two users; empty for none."""
        return {
            self.username: "" if self.client_certificate else self.password,
            stats_user(self.username): self.password,
        }

    def shown(self) -> dict[str, Any]:
        """Return the fields to hand out, without those that the tenant has not got."""
        return {name: value for name, value in asdict(self).items() if value}


def find_credentials(engine: Engine, tenant_id: str, platform: str, cells: Iterable[str] = ()) -> dict[str, Any]:
    """Return one tenant's credentials, addresses, plan and modules, for its applications.

    Read from the state of the tenant's own stack, else of the platform's, else of another cell's: `cells` are their
    stacks. Raises NoCredentials.
    """
    listed = set[str]()
    for stack in dict.fromkeys([Names(tenant_id).stack, platform, *cells]):
        outputs = engine.outputs(StackSpec(name=stack))
        listed |= outputs.get("tenants", {}).keys()
        if entry := outputs.get("tenants", {}).get(tenant_id):
            return {
                "tenant": tenant_id,
                **Credentials.of(entry).shown(),
                **{key: outputs[key] for key in PLATFORM_ADDRESSES if outputs.get(key)},
                "plan": entry["plan"],
                "modules": list(entry["modules"]),
            }
    own = (stack.removeprefix(TENANT_STACK) for stack in engine.stacks() if stack.startswith(TENANT_STACK))
    raise NoCredentials(tenant_id, platform, sorted({*listed, *own}))
