"""The broker's addresses and the tenant's credentials: from an AMQP URI, the environment, or a file."""

from __future__ import annotations

import json
import os
import ssl
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from kryonix.certificates.trust import context, show
from kryonix.errors import InvalidChoice
from kryonix.messaging.checks import check_type
from kryonix.messaging.errors import ConfigurationError
from kryonix.topology.addresses import PLATFORM_ADDRESSES, host_port, split_address
from kryonix.topology.errors import nearest
from kryonix.topology.naming import Names, tenant_of_vhost

URI_VARIABLE: Final = "KRYONIX_AMQP_URI"
OUTPUTS_VARIABLE: Final = "KRYONIX_OUTPUTS"
MANAGEMENT_VARIABLE: Final = "KRYONIX_MANAGEMENT_URL"
ADDRESSES_VARIABLE: Final = "KRYONIX_AMQP_ADDRESSES"
"""`HOST:PORT` of each node, with commas between them."""
CA_VARIABLE: Final = "KRYONIX_CA_FILE"
CERTIFICATE_VARIABLE: Final = "KRYONIX_CLIENT_CERTIFICATE"
"""A file with the tenant's certificate and its key (PEM), for a tenant that has no password."""

WRITE_IT: Final = "`kryonix tenant credentials ID --output FILE`"
"""The command that writes a file of credentials."""
_PORTS: Final = {"amqp": 5672, "amqps": 5671}
_REMEDY: Final = (
    "Write it as amqp://kryonix_TENANT:PASSWORD@HOST:5672/%2Fcliente_TENANT, "
    "with special characters of the password escaped as %2F, %23, %3F, %40"
)
_REMEDY_CA: Final = (
    "Name a file with what `kryonix certificates ca print` prints, or leave it out to trust the system's CAs"
)

_PAIR: Final = ("client_certificate", "client_key", "password")
_EXTERNAL: Final = "auth=EXTERNAL"
"""The query of a URI whose user is the common name of the client's certificate."""
_REMEDY_NEITHER: Final = (
    f"A tenant that logs in with a certificate has no password: use its whole file of credentials ({WRITE_IT})"
)
_REMEDY_CERTIFICATE: Final = f"Take both from {WRITE_IT}"


@dataclass(frozen=True, slots=True)
class Address:
    """A tenant's vhost on a broker, with credentials.

    Host and port are one node's; `others` are those of the other nodes.
    """

    scheme: str
    host: str
    port: int
    username: str
    password: str = field(repr=False)
    tenant_id: str
    management_url: str | None = None
    query: str = ""
    others: tuple[tuple[str, int], ...] = ()
    management_urls: tuple[str, ...] = ()
    """One per node, where there are several."""
    ca_certificate: str = ""
    """The CAs to trust (PEM); empty: the system's."""
    client_certificate: str = ""
    """The tenant's certificate (PEM), for one that logs in with it; the password is then that for figures only."""
    client_key: str = field(default="", repr=False)

    @property
    def nodes(self) -> list[Address]:
        """Return the address of each node alone."""
        places = dict.fromkeys([(self.host, self.port), *self.others])
        return [replace(self, host=host, port=port, others=()) for host, port in places]

    @property
    def amqp_addresses(self) -> list[str]:
        """Return `HOST:PORT` of each node."""
        return [host_port(node.host, node.port) for node in self.nodes]

    def trust(self) -> ssl.SSLContext | None:
        """Return what verifies the broker's certificate, and shows the tenant's if there is one.

        None: the system's CAs alone. Raises ConfigurationError.
        """
        if not self.ca_certificate and not self.client_certificate:
            return None
        try:
            verifying = context(self.ca_certificate)
        except InvalidChoice as error:
            raise ConfigurationError(str(error), remedy=_REMEDY_CA) from error
        if self.client_certificate:
            _show(verifying, self.client_key + self.client_certificate)
        return verifying

    @property
    def vhost(self) -> str:
        return Names(self.tenant_id).vhost

    @property
    def place(self) -> str:
        """The address without credentials, for messages."""
        return f"{self.scheme}://{','.join(self.amqp_addresses)}{self.vhost}"

    def uri(self) -> str:
        """Return the complete URI of one node, password included. Never show it."""
        login = quote(self.username, safe="")
        if not _is_external(self.query):
            login += f":{quote(self.password, safe='')}"
        query = f"?{self.query}" if self.query else ""
        return f"{self.scheme}://{login}@{host_port(self.host, self.port)}/{quote(self.vhost, safe='')}{query}"


def find_address(
    amqp_uri: str | None,
    outputs: str | Path | None,
    tenant: str | None,
    management_url: str | None,
    addresses: Sequence[str] | None = None,
    ca_file: str | Path | None = None,
) -> Address:
    """Return the address of the URI, or else of the environment's URI, or of a file. Raises ConfigurationError."""
    texts = {"amqp_uri": amqp_uri, "tenant": tenant, "management_url": management_url}
    for name, value in texts.items():
        check_type(name, value, str | None)
    check_type("outputs", outputs, str | Path | None)
    check_type("ca_file", ca_file, str | Path | None)
    management = management_url or os.environ.get(MANAGEMENT_VARIABLE)
    if uri := amqp_uri or (None if outputs else os.environ.get(URI_VARIABLE)):
        address = address_of(uri, {}, management, addresses, ca_file)
        if tenant not in (None, address.tenant_id):
            problem = f"tenant {tenant!r} is not the one of the AMQP URI, {address.tenant_id!r}"
            raise ConfigurationError(problem, remedy="Make them the same, or leave tenant out")
        return address
    if file := outputs or os.environ.get(OUTPUTS_VARIABLE):
        content = read_outputs(Path(file), private=False)
        uri, fields = credentials_in(content, tenant, repr(str(file)))
        return address_of(uri, content, management, addresses, ca_file, fields)
    remedy = f"Pass amqp_uri, or set {URI_VARIABLE}, or set {OUTPUTS_VARIABLE} to a file written by {WRITE_IT}"
    raise ConfigurationError("no broker address", remedy=remedy)


def address_of(
    uri: str,
    outputs: Mapping[str, Any],
    management_url: str | None = None,
    addresses: Sequence[str] | None = None,
    ca_file: str | Path | None = None,
    fields: Mapping[str, Any] | None = None,
) -> Address:
    """Return the address of a URI on the platform of these outputs. `fields` are the tenant's.

    What is given replaces what the outputs have, and so does the environment's CA file. The environment's addresses are
    for outputs without any: a login must not go to another platform's nodes. Raises ConfigurationError.
    """
    further = () if management_url else outputs.get("management_urls") or ()
    certificate, key, password = _certificate(fields or {})
    address = parse_uri(uri, management_url or outputs.get("management_url"), password if certificate else None)
    if certificate and address.password != password:  # the URI has a password of its own, which counts
        certificate = key = ""
    if certificate and not _is_external(address.query):
        address = replace(address, query="&".join(filter(None, (address.query, _EXTERNAL))))
    if _is_external(address.query) and address.scheme != "amqps":
        remedy = "Write the URI as amqps://, or use a tenant with a password"
        raise ConfigurationError("a client certificate needs TLS, and the AMQP URI has none", remedy=remedy)
    listed = [each.strip() for each in os.environ.get(ADDRESSES_VARIABLE, "").split(",") if each.strip()]
    nodes = addresses or outputs.get("amqp_addresses") or listed
    file = ca_file or os.environ.get(CA_VARIABLE)
    return replace(
        address,
        others=tuple(_parsed(nodes, _PORTS[address.scheme])),
        management_urls=tuple(map(checked_management_url, further)),
        ca_certificate=_read_ca(Path(file)) if file else outputs.get("ca_certificate") or "",
        client_certificate=certificate,
        client_key=key,
    )


def _certificate(fields: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return the tenant's certificate, its key and the password for figures; empty if it logs in with a password."""
    if file := os.environ.get(CERTIFICATE_VARIABLE):
        try:
            return Path(file).read_text(encoding="ascii"), "", ""
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is not PEM"
            raise ConfigurationError(f"cannot read {file!r}: {reason}", remedy=_REMEDY_CERTIFICATE) from error
    certificate, key, password = (str(fields.get(name) or "") for name in _PAIR)
    return certificate, key, password


def _is_external(query: str) -> bool:
    """Return True for a URI's query of a client that logs in with a certificate."""
    return _EXTERNAL in query.split("&")


def _show(verifying: ssl.SSLContext, pem: str) -> None:
    """Let a client show a certificate. Raises ConfigurationError."""
    try:
        show(verifying, pem)
    except OSError as error:
        problem = "the client certificate can't be used: it is not a certificate with its own key, in PEM"
        raise ConfigurationError(problem, remedy=_REMEDY_CERTIFICATE) from error


def _parsed(addresses: Sequence[str], port: int) -> Iterator[tuple[str, int]]:
    """Yield host and port of each node. Raises ConfigurationError."""
    check_type("addresses", addresses, list | tuple)
    for address in addresses:
        try:
            yield split_address(address, port)
        except (ValueError, TypeError, AttributeError):
            # Of text without a login, and of nothing else: an object may hold a password.
            shown = f" {address!r:.60}" if isinstance(address, str) else f" {type(address).__name__}"
            shown = "" if "@" in shown else shown
            problem = f"addresses:{shown} is not the HOST:PORT of a node"
            remedy = "Write one for each node, without a scheme or a login, as in broker-1.example.com:5671"
            raise ConfigurationError(problem, remedy=remedy) from None


def _read_ca(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not PEM"
        problem = f"cannot read the CA file {str(file)!r}: {reason}"
        raise ConfigurationError(problem, remedy=_REMEDY_CA) from error


def parse_uri(uri: str, management_url: str | None = None, figures_password: str | None = None) -> Address:
    """Parse an AMQP URI. Raises ConfigurationError, without any part that may be a password.

    One without a password, or with the query `auth=EXTERNAL`, is a tenant's that logs in with a certificate.
    `figures_password` is that of its user for figures.
    An unescaped `/`, `#` or `?` in the password ends up in the port, path or query.
    """
    try:
        parts = urlsplit(uri)
        if "," in parts.netloc.rpartition("@")[2]:
            remedy = f"Name one host, and all of them in {ADDRESSES_VARIABLE} or `addresses=`"
            raise ConfigurationError("the AMQP URI names several hosts", remedy=remedy)
        port = parts.port
    except ValueError:
        raise ConfigurationError("the AMQP URI is not a valid URI", remedy=_REMEDY) from None
    password = figures_password if parts.password is None else unquote(parts.password)
    if password is None and _is_external(parts.query):
        password = ""  # the certificate is in the caller's own SSL context
    if parts.scheme not in _PORTS or not parts.hostname or not parts.username or password is None:
        problem = "the AMQP URI is incomplete: it needs the scheme amqp or amqps, user, password and host"
        without = parts.scheme == "amqps" and parts.hostname and parts.username
        raise ConfigurationError(problem, remedy=f"{_REMEDY}. {_REMEDY_NEITHER}" if without else _REMEDY)
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
        password=password,
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
        return {**{key: content[key] for key in PLATFORM_ADDRESSES if key in content}, "tenants": {tenant: content}}
    return content


def _tenant_of(credentials: Mapping[Any, Any]) -> str | None:
    """Return the tenant id in the AMQP URI of the credentials."""
    uri = credentials.get("amqp_uri")
    try:
        return tenant_of_vhost(unquote(urlsplit(uri).path[1:])) if isinstance(uri, str) else None
    except ValueError:
        return None
