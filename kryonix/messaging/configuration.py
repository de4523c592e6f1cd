"""Where the broker is and who connects: an AMQP URI, found and taken apart once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from kryonix.messaging.checks import shown
from kryonix.messaging.credentials_file import WRITE_IT, read_outputs
from kryonix.messaging.errors import ConfigurationError
from kryonix.topology.errors import nearest
from kryonix.topology.naming import Names, tenant_of_vhost

__all__ = ["HEARTBEAT", "PREFETCH", "Address", "checked_management_url", "find_address", "parse_uri"]

HEARTBEAT: Final = 60
"""Seconds; a connection that is silent for three times as long is dead."""
PREFETCH: Final = 100
"""Messages a consumer is handed before it has answered the first."""

URI_VARIABLE: Final = "KRYONIX_AMQP_URI"
OUTPUTS_VARIABLE: Final = "KRYONIX_OUTPUTS"
MANAGEMENT_VARIABLE: Final = "KRYONIX_MANAGEMENT_URL"

_PORTS: Final = {"amqp": 5672, "amqps": 5671}
_REMEDY: Final = (
    "Write it as amqp://kryonix_TENANT:PASSWORD@HOST:5672/%2Fcliente_TENANT, "
    "with what is no letter or digit in the password as %2F, %23, %3F, %40"
)


@dataclass(frozen=True, slots=True)
class Address:
    """A tenant's vhost on a broker, and the credentials for it."""

    scheme: str
    host: str
    port: int
    username: str
    password: str = field(repr=False)
    tenant_id: str
    management_url: str | None = None
    query: str = ""

    @property
    def vhost(self) -> str:
        return Names(self.tenant_id).vhost

    @property
    def place(self) -> str:
        """What may be shown."""
        return f"{self.scheme}://{self.host}:{self.port}{self.vhost}"

    def uri(self) -> str:
        """The whole, password included: for the connection, for nobody's eyes."""
        login = f"{quote(self.username, safe='')}:{quote(self.password, safe='')}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        query = f"?{self.query}" if self.query else ""
        return f"{self.scheme}://{login}@{host}:{self.port}/{quote(self.vhost, safe='')}{query}"


def find_address(
    amqp_uri: str | None, outputs: str | Path | None, tenant: str | None, management_url: str | None
) -> Address:
    """Return the URI given, or the environment's, or the one in a file of credentials. Raises ConfigurationError."""
    environment = os.environ
    management = management_url or environment.get(MANAGEMENT_VARIABLE)
    if uri := amqp_uri or (None if outputs else environment.get(URI_VARIABLE)):
        address = parse_uri(uri, management)
        if tenant not in (None, address.tenant_id):
            problem = f"tenant {tenant!r} is not the one of the AMQP URI, which is {address.tenant_id!r}"
            raise ConfigurationError(problem, remedy="Make them the same, or leave tenant out")
        return address
    if file := outputs or environment.get(OUTPUTS_VARIABLE):
        uri, found = _from_outputs(_path(file), tenant)
        return parse_uri(uri, management or found)
    raise ConfigurationError(
        "no address of a broker",
        remedy=f"Pass amqp_uri, or set {URI_VARIABLE}, or set {OUTPUTS_VARIABLE} to a file written by {WRITE_IT}",
    )


def parse_uri(uri: str, management_url: str | None = None) -> Address:
    """An AMQP URI taken apart. Raises ConfigurationError, which shows nothing of it that may be a password.

    One with a `/`, `#` or `?` in it that is not written as %2F, %23 or %3F is taken for a port, a path or a query.
    """
    try:
        parts = urlsplit(uri if isinstance(uri, str) else "")
        port = parts.port
    except ValueError:
        raise ConfigurationError("the AMQP URI can't be read", remedy=_REMEDY) from None
    if parts.scheme not in _PORTS or not parts.hostname or not parts.username or parts.password is None:
        problem = "the AMQP URI lacks something: scheme amqp or amqps, user, password, host"
        raise ConfigurationError(problem, remedy=_REMEDY)
    vhost = unquote(parts.path[1:])
    tenant_id = tenant_of_vhost(vhost)
    if tenant_id is None:
        shown = "" if "@" in vhost else f" {vhost!r}"
        raise ConfigurationError(f"the AMQP URI names a vhost{shown} that is no tenant's", remedy=_REMEDY)
    return Address(
        scheme=parts.scheme,
        host=parts.hostname,
        port=port or _PORTS[parts.scheme],
        username=unquote(parts.username),
        password=unquote(parts.password),
        tenant_id=tenant_id,
        management_url=None if management_url is None else checked_management_url(management_url),
        query=parts.query,
    )


def checked_management_url(url: str) -> str:
    """The management API's address, which holds no login: the tenant's own is used. Raises ConfigurationError."""
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
        _ = parts.port
    except ValueError:
        usable = False
    if not usable:
        problem = "the management URL is not the address of an API without a login"
        raise ConfigurationError(problem, remedy="Write it as http://HOST:15672; the tenant's own login is used")
    return url


def _path(file: Any) -> Path:
    try:
        return Path(file)
    except TypeError as error:
        raise ConfigurationError(f"outputs {shown(file)} is no path", remedy="Name a file") from error


def _from_outputs(file: Path, tenant: str | None) -> tuple[str, str | None]:
    outputs = read_outputs(file, private=False)
    try:
        tenants: Mapping[str, Any] = outputs["tenants"]
        chosen = tenant if tenant is not None or len(tenants) != 1 else next(iter(tenants))
        known = chosen in tenants
        uri = tenants[str(chosen)].get("amqp_uri") if known else None
        management = outputs.get("management_url")
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"{str(file)!r} holds no credentials of a tenant", remedy=f"Write it with {WRITE_IT}"
        ) from error
    if chosen is None or not known:
        problem = f"{str(file)!r} has no tenant {chosen!r}; {nearest(chosen, tenants)}"
        raise ConfigurationError(problem, remedy="Pass tenant= with one of them")
    if not isinstance(uri, str) or not uri.startswith("amqp"):
        raise ConfigurationError(f"{str(file)!r} was written without secrets", remedy=f"Write it with {WRITE_IT}")
    return uri, management
