"""ForeignSettings: a platform that a tenant's stack names by its addresses, in its own config."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Self
from urllib.parse import SplitResult, urlsplit

import pulumi

from components.errors import InvalidStack
from kryonix.topology.addresses import host_port, split_address

AMQP_TLS: Final = "amqp_tls"
"""Whether AMQP has TLS. The outputs of a platform tell it by their addresses; this config has a key for it."""
_KEYS: Final = {
    "management_url": "managementUrl",
    "admin_username": "adminUsername",
    "admin_password": "adminPassword",
    "amqp_host": "advertisedHost",
    "registry_dsn": "registryDsn",
}
_SECRET: Final = ("admin_password", "registry_dsn")


@dataclass(frozen=True, kw_only=True)
class ForeignSettings:
    """The addresses of a broker. The lists have those of all nodes, and are empty where one address leads to all."""

    management_url: str
    amqp_host: str
    amqp_port: str
    management_urls: Sequence[Any] = ()
    amqp_addresses: Sequence[Any] = ()
    tls: bool = False
    ca_certificate: str = ""

    def __post_init__(self) -> None:
        if problems := [*self._problems()]:
            raise InvalidStack("\n".join(problems))

    @classmethod
    def load(cls, config: pulumi.Config) -> Self:
        """Return this stack's settings. Raises InvalidStack."""
        missing = [f"kryonix:{key}" for key in _KEYS.values() if not config.get(key)]
        if missing:
            remedy = "Set `kryonix:platform` to the platform's stack, or all of these"
            raise InvalidStack(
                f"a stack of one tenant has to know its platform; missing: {', '.join(missing)}. {remedy}"
            )
        for key in (_KEYS[name] for name in _SECRET):
            if not pulumi.runtime.is_config_secret(f"kryonix:{key}"):
                remedy = (
                    f"Set it again with `pulumi config set --secret kryonix:{key}`, and replace it where it is used"
                )
                raise InvalidStack(f"kryonix:{key} is stored in plain text in the stack's file. {remedy}")
        return cls(
            management_url=config.require("managementUrl"),
            amqp_host=config.require("advertisedHost"),
            amqp_port=config.require("amqpPort"),
            management_urls=config.get_object("managementUrls") or (),
            amqp_addresses=config.get_object("amqpAddresses") or (),
            tls=config.require("tls") == "true",
            ca_certificate=config.get("caCertificate") or "",
        )

    @property
    def addresses(self) -> Mapping[str, str]:
        """Return the addresses that tenants get, by the names of a platform's outputs."""
        return {"management_url": self.management_url, "amqp_host": self.amqp_host, "amqp_port": self.amqp_port}

    @staticmethod
    def logins(config: pulumi.Config) -> Mapping[str, pulumi.Input[str]]:
        """Return the administrator and the registry, with secrets marked, by the names of a platform's outputs."""
        secrets = {name: config.require_secret(_KEYS[name]) for name in _SECRET}
        return {"admin_username": config.require(_KEYS["admin_username"]), **secrets}

    @property
    def nodes(self) -> Mapping[str, Any]:
        """Return what a platform's outputs have about its nodes, by the same names, and AMQP_TLS."""
        return {
            "management_urls": list(self.management_urls),
            "amqp_addresses": list(self.amqp_addresses),
            "ca_certificate": self.ca_certificate if self.tls else "",
            AMQP_TLS: self.tls,
        }

    def _problems(self) -> Iterator[str]:
        first = _url(self.management_url)
        if first is None:
            yield f"kryonix:managementUrl: {_shown(self.management_url)} {_NO_URL}"
        elif self.tls and first.scheme != "https":
            remedy = 'Write https://, or set kryonix:tls to "false" for a broker without TLS'
            yield f"kryonix:managementUrl: {_shown(self.management_url)} is not https, and kryonix:tls is on. {remedy}"
        for url in self.management_urls:
            parts = _url(url)
            if parts is None:
                yield f"kryonix:managementUrls: {_shown(url)} {_NO_URL}"
            elif first is not None and parts.scheme != first.scheme:
                other = f"is {parts.scheme}, and kryonix:managementUrl is {first.scheme}"
                yield f"kryonix:managementUrls: {_shown(url)} {other}. Write the same for all nodes"
        yield from (
            f"kryonix:amqpAddresses: {_shown(address)} is not the HOST:PORT of a node. Write it without a scheme or a "
            f"login, as in {host_port('broker-2.example.com', 5671 if self.tls else 5672)}"
            for address in _no_addresses(self.amqp_addresses)
        )
        counts = len(self.management_urls), len(self.amqp_addresses)
        if all(counts) and counts[0] != counts[1]:
            remedy = "List each node in both, in the same order. Leave out a list whose one address leads to all nodes"
            yield f"kryonix:managementUrls has {counts[0]} nodes, and kryonix:amqpAddresses {counts[1]}. {remedy}"


_NO_URL: Final = "is not the URL of a management API. Write http://HOST:PORT or https://HOST:PORT, without a login"


def _url(value: Any) -> SplitResult | None:
    """Return the parts of a management API's URL; None for anything else."""
    with suppress(ValueError):
        parts = urlsplit(value if isinstance(value, str) else "")
        if parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc and parts.port != 0:
            return parts
    return None


def _no_addresses(given: Iterable[Any]) -> Iterator[Any]:
    for address in given:
        try:
            split_address(address if isinstance(address, str) else "")
        except ValueError:
            yield address


def _shown(value: Any) -> str:
    """Return a value for a message, without a login, which may hold a password."""
    return repr(value.rpartition("@")[2] if isinstance(value, str) else value)
