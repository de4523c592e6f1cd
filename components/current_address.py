"""CurrentAddress: where a platform's services are by the config of the run, whatever a resource was made with."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from pulumi.dynamic import Config

from components.management import BrokerAccess

__all__ = ["CurrentAddress", "local_host"]


def local_host(address: str) -> str:
    """Return where this machine reaches what is published at an address: all interfaces include loopback."""
    return "127.0.0.1" if ipaddress.ip_address(address).is_unspecified else address


@dataclass(frozen=True, kw_only=True)
class CurrentAddress:
    """The published address of this stack's own platform."""

    host: str
    amqp_port: int
    management_port: int
    registry_port: int

    @classmethod
    def of(cls, config: Config) -> CurrentAddress | None:
        """Return what a platform's config says; None for a stack of one tenant, and where the config is not known."""
        keys = ("bindAddress", "amqpPort", "managementPort", "registryPort")
        host, *ports = (config.get(f"kryonix:{key}") for key in keys)
        if config.get("kryonix:tenant") not in (None, "", "{}") or not host or not all(ports):
            return None
        try:
            local = local_host(host)
        except ValueError:  # the program says so; where it does not run, the address of the last run has to do
            return None
        amqp, management, registry = (int(port) for port in ports if port)
        return cls(host=local, amqp_port=amqp, management_port=management, registry_port=registry)

    def broker(self, access: BrokerAccess) -> BrokerAccess:
        """Return the same access at this address."""
        return replace(
            access,
            management_url=f"http://{self.host}:{self.management_port}",
            amqp_host=self.host,
            amqp_port=self.amqp_port,
        )

    def registry(self, dsn: str) -> str:
        """Return the same address of a database with this server in it."""
        parts = urlsplit(dsn)
        login = parts.netloc.rpartition("@")[0]
        return parts._replace(netloc=f"{login}@{self.host}:{self.registry_port}").geturl()
