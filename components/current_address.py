"""CurrentAddress: the address of a platform's services in this run's config, which may differ from a resource's."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from pulumi.dynamic import Config

from kryonix.rabbitmq.counts import BrokerAccess
from kryonix.topology.addresses import host_port


def local_host(address: str) -> str:
    """Return the local address of services published at `address`: loopback for all interfaces."""
    parsed = ipaddress.ip_address(address)
    return ("127.0.0.1" if parsed.version == 4 else "::1") if parsed.is_unspecified else address


@dataclass(frozen=True, kw_only=True)
class CurrentAddress:
    """The published address of this stack's own platform."""

    host: str
    amqp_port: int
    management_port: int
    registry_port: int

    @classmethod
    def of(cls, config: Config) -> CurrentAddress | None:
        """Return the address in a platform's config; None for a stack of one tenant, or if the config is unknown."""
        keys = ("bindAddress", "amqpPort", "managementPort", "registryPort")
        host, *ports = (config.get(f"kryonix:{key}") for key in keys)
        if config.get("kryonix:tenant") not in (None, "", "{}") or not host or not all(ports):
            return None
        try:
            local = local_host(host)
        except ValueError:  # the program refuses it; where it does not run, the last run's address is used
            return None
        amqp, management, registry = (int(port) for port in ports if port)
        return cls(host=local, amqp_port=amqp, management_port=management, registry_port=registry)

    def broker(self, access: BrokerAccess) -> BrokerAccess:
        """Return the access with this address."""
        return replace(
            access,
            management_url=f"http://{host_port(self.host, self.management_port)}",
            amqp_host=self.host,
            amqp_port=self.amqp_port,
        )

    def registry(self, dsn: str) -> str:
        """Return the DSN with this server's address."""
        parts = urlsplit(dsn)
        login = parts.netloc.rpartition("@")[0]
        return parts._replace(netloc=f"{login}@{host_port(self.host, self.registry_port)}").geturl()
