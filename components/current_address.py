"""CurrentAddress: the address of a platform's services in this run's config, which may differ from a resource's."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from pulumi.dynamic import Config

from components.tls_settings import speaks_tls
from kryonix.certificates.trust import trusted_here
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
    tls: bool = False

    @classmethod
    def of(cls, config: Config) -> CurrentAddress | None:
        """Return the address in a platform's config; None for a stack of one tenant, or if the config is unknown."""
        host, *ports = _host(config), *(config.get(f"kryonix:{key}Port") for key in ("amqp", "management", "registry"))
        if config.get("kryonix:tenant") not in (None, "", "{}") or not host or not all(ports):
            return None
        try:
            local = local_host(host)
        except ValueError:  # the program refuses it; where it does not run, the last run's address is used
            return None
        listening = [config.get(f"kryonix:{key}") or host for key in ("metricsAddress", "signupAddress")]
        signup = config.get("kryonix:signup") == "true"
        tls = speaks_tls(config.get("kryonix:tls") or "auto", [host, *(listening if signup else listening[:1])])
        amqp, management, registry = (int(port) for port in ports if port)
        return cls(host=local, amqp_port=amqp, management_port=management, registry_port=registry, tls=tls)

    def broker(self, access: BrokerAccess) -> BrokerAccess:
        """Return the access with this address."""
        return replace(
            access,
            management_url=f"{'https' if self.tls else 'http'}://{host_port(self.host, self.management_port)}",
            amqp_host=self.host,
            amqp_port=self.amqp_port,
            amqp_tls=self.tls,
            # What was made before the platform had TLS has no CA of its own.
            ca_certificate=(access.ca_certificate or trusted_here()) if self.tls else "",
        )

    def registry(self, dsn: str) -> str:
        """Return the DSN with this server's address."""
        parts = urlsplit(dsn)
        login = parts.netloc.rpartition("@")[0]
        query = parts.query if self.tls else ""  # how the client verifies the server
        return parts._replace(netloc=f"{login}@{host_port(self.host, self.registry_port)}", query=query).geturl()


def _host(config: Config) -> str | None:
    """Return the address of what runs on the first machine."""
    try:
        hosts = json.loads(config.get("kryonix:hosts") or "[]")
        return str(hosts[0]["address"]) if hosts else config.get("kryonix:bindAddress")
    except (ValueError, LookupError, TypeError):  # the program refuses it
        return None
