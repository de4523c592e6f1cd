"""The broker's address and the tenant's credentials: from an AMQP URI, the environment, or a file."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from kryonix.messaging.checks import check_type
from kryonix.messaging.errors import ConfigurationError
from kryonix.topology.addresses import host_port
from kryonix.topology.errors import nearest
from kryonix.topology.naming import Names, tenant_of_vhost

URI_VARIABLE: Final = "KRYONIX_AMQP_URI"
OUTPUTS_VARIABLE: Final = "KRYONIX_OUTPUTS"
MANAGEMENT_VARIABLE: Final = "KRYONIX_MANAGEMENT_URL"

WRITE_IT: Final = "`kryonix tenant credentials ID --output FILE`"
"""The command that writes a file of credentials."""
_PORTS: Final = {"amqp": 5672, "amqps": 5671}
_REMEDY: Final = (
    "Write it as amqp://kryonix_TENANT:PASSWORD@HOST:5672/%2Fcliente_TENANT, "
    "with special characters of the password escaped as %2F, %23, %3F, %40"
)


@dataclass(frozen=True, slots=True)
class Address:
    """A tenant's vhost on a broker, with credentials."""

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
        """The address without credentials, for messages."""
        return f"{self.scheme}://{host_port(self.host, self.port)}{self.vhost}"

    def uri(self) -> str:
        """Return the complete URI, password included. Never show it."""
        login = f"{quote(self.username, safe='')}:{quote(self.password, safe='')}"
        query = f"?{self.query}" if self.query else ""
        return f"{self.scheme}://{login}@{host_port(self.host, self.port)}/{quote(self.vhost, safe='')}{query}"


def find_address(
    amqp_uri: str | None, outputs: str | Path | None, tenant: str | None, management_url: str | None
) -> Address:
    """Return the address of the URI, or else of the environment's URI, or of a file. Raises ConfigurationError."""
    texts = {"amqp_uri": amqp_uri, "tenant": tenant, "management_url": management_url}
    for name, value in texts.items():
        check_type(name, value, str | None)
    check_type("outputs", outputs, str | Path | None)
    management = management_url or os.environ.get(MANAGEMENT_VARIABLE)
    if uri := amqp_uri or (None if outputs else os.environ.get(URI_VARIABLE)):
        address = parse_uri(uri, management)
        if tenant not in (None, address.tenant_id):
            problem = f"tenant {tenant!r} is not the one of the AMQP URI, {address.tenant_id!r}"
            raise ConfigurationError(problem, remedy="Make them the same, or leave tenant out")
        return address
    if file := outputs or os.environ.get(OUTPUTS_VARIABLE):
        content = read_outputs(Path(file), private=False)
        uri, _ = credentials_in(content, tenant, repr(str(file)))
        return parse_uri(uri, management or content.get("management_url"))
    remedy = f"Pass amqp_uri, or set {URI_VARIABLE}, or set {OUTPUTS_VARIABLE} to a file written by {WRITE_IT}"
    raise ConfigurationError("no broker address", remedy=remedy)


def parse_uri(uri: str, management_url: str | None = None) -> Address:
    """Parse an AMQP URI. Raises ConfigurationError, without any part that may be a password.

    An unescaped `/`, `#` or `?` in the password ends up in the port, path or query.
    """
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        raise ConfigurationError("the AMQP URI is not a valid URI", remedy=_REMEDY) from None
    if parts.scheme not in _PORTS or not parts.hostname or not parts.username or parts.password is None:
        problem = "the AMQP URI is incomplete: it needs the scheme amqp or amqps, user, password and host"
        raise ConfigurationError(problem, remedy=_REMEDY)
    vhost = unquote(parts.path[1:])
    tenant_id = tenant_of_vhost(vhost)
    if tenant_id is None:
        shown = "" if "@" in vhost else f" {vhost!r}"
        raise ConfigurationError(f"the vhost{shown} of the AMQP URI is not a tenant's vhost", remedy=_REMEDY)
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
    """Return the management API's address, without a login. Raises ConfigurationError."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
        _ = parts.port
    except ValueError:
        usable = False
    if not usable:
        problem = "the management URL is not a valid address without a login"
        raise ConfigurationError(problem, remedy="Write it as http://HOST:15672; the tenant's own login is used")
    return url


def choose_tenant(wanted: str | None, known: Collection[str], source: str) -> str:
    """Return the tenant of this ID, or the only one. Raises ConfigurationError."""
    remedy = "Name one of them: `tenant=` in a program, --tenant for a command"
    if wanted is None and len(known) != 1:
        names = ", ".join(sorted(known)[:10])
        raise ConfigurationError(f"{source} has {len(known)} tenants: {names}", remedy=remedy)
    chosen = next(iter(known)) if wanted is None else wanted
    if chosen not in known:
        raise ConfigurationError(f"{source} has no tenant {chosen!r}; {nearest(chosen, known)}", remedy=remedy)
    return chosen


def credentials_in(outputs: Any, tenant: str | None, source: str) -> tuple[str, Mapping[str, Any]]:
    """Return the AMQP URI and the fields of a tenant in stack outputs. Raises ConfigurationError."""
    tenants = outputs.get("tenants") if isinstance(outputs, Mapping) else None
    if not isinstance(tenants, Mapping) or not tenants:
        raise ConfigurationError(f"{source} has no tenant credentials", remedy=f"Write it with {WRITE_IT}")
    fields = tenants[choose_tenant(tenant, tenants, source)]
    uri = fields.get("amqp_uri") if isinstance(fields, Mapping) else None
    if not isinstance(uri, str) or not uri.startswith("amqp"):
        raise ConfigurationError(f"{source} was written without secrets", remedy=f"Write it with {WRITE_IT}")
    return uri, fields


def read_outputs(file: Path, *, private: bool) -> Any:
    """Return a file's content in the form of stack outputs, `{"tenants": {ID: {"amqp_uri": …}}}`.

    A file with one tenant's credentials (`kryonix tenant credentials`, `create`, `rotate`) becomes outputs with that
    tenant only. A file that other users can read is refused; with `private`, one that its group can read, too: a
    container's secrets are mounted for its group. Raises ConfigurationError.
    """
    try:
        with file.open("rb") as opened:
            content = json.loads(opened.read())  # first: a file named by mistake holds no passwords
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
    except OSError as error:
        problem = f"cannot read {str(file)!r}: {error.strerror}"
        raise ConfigurationError(problem, remedy=f"Name a readable file, or write it with {WRITE_IT}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{str(file)!r} is not JSON", remedy=f"Write it with {WRITE_IT}") from error
    if mode & (0o077 if private else 0o007) and os.name == "posix":  # elsewhere modes mean nothing
        problem = f"{str(file)!r} holds passwords and has mode {mode:03o}: other users can read it"
        remedy = f"Run `chmod 600 {file}`, and change the passwords if others may have read them"
        raise ConfigurationError(problem, remedy=remedy)
    if isinstance(content, Mapping) and "tenants" not in content and (tenant := _tenant_of(content)) is not None:
        return {"management_url": content.get("management_url"), "tenants": {tenant: content}}
    return content


def _tenant_of(credentials: Mapping[Any, Any]) -> str | None:
    """Return the tenant id in the AMQP URI of the credentials."""
    uri = credentials.get("amqp_uri")
    try:
        return tenant_of_vhost(unquote(urlsplit(uri).path[1:])) if isinstance(uri, str) else None
    except ValueError:
        return None
