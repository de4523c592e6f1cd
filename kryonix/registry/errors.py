"""Errors of the registry, and their translation from the driver's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from kryonix.certificates.trust import why
from kryonix.errors import InvalidChoice, KryonixError
from kryonix.topology.addresses import host_port

_NO_FILE: Final = re.compile(r"root certificate file .* does not exist")
_NOT_MADE: Final = re.compile(r"FATAL: .*(does not exist|password authentication failed|not permitted to log in)")
"""PostgreSQL's messages for a database or a role that does not exist (or no longer does)."""


class RegistryError(KryonixError):
    """Base of every error of this package."""

    exit_status = 1


class RegistryAddressInvalid(RegistryError):
    """The DSN is malformed. The message contains no part of it or of libpq's text: any part may be the password."""

    exit_status = 2

    def __init__(self) -> None:
        super().__init__(
            "the registry's address (registry_dsn) is malformed; it is not shown, as it may contain a password. Write "
            "it as postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with special characters of the user and the "
            "password percent-encoded (`%` as %25, `@` as %40, `/` as %2F), then run again"
        )


class RegistryUnavailable(RegistryError):
    """The database can't be reached or refuses the credentials."""

    exit_status = 3


class RegistryNotMade(RegistryUnavailable):
    """The server has no such database or role, or no longer."""


class RegistryUntrusted(RegistryUnavailable):
    """TLS with the server fails: its certificate is not accepted, or it has no TLS."""


class RegistryRefused(RegistryError):
    """The database refused a statement."""


class RoutingBusy(RegistryError):
    """Another process changes a tenant's routing."""

    exit_status = 3

    def __init__(self, cliente_id: str) -> None:
        super().__init__(
            f"another process changes the routing of the tenant {cliente_id!r}. Run again once it has ended"
        )


class RoutingRefused(RegistryError, InvalidChoice):
    """A change of a tenant's routing that is not valid. Nothing has been changed."""

    exit_status = 2


@contextmanager
def translated(dsn: str) -> Iterator[None]:
    """Translate psycopg's errors; the message names the database without its password."""
    where = _shown(dsn)
    try:
        yield
    except psycopg.OperationalError as error:
        if fault := trust_fault(error, dsn):
            raise RegistryUntrusted(f"registry {where} can't be trusted: {fault}") from error
        remedy = "Check that PostgreSQL runs there and that the registry_dsn is right, then run again"
        kind = RegistryNotMade if _NOT_MADE.search(str(error)) else RegistryUnavailable
        raise kind(f"registry {where} can't be used: {_first_line(error)}. {remedy}") from error
    except psycopg.Error as error:
        remedy = "Check that the migrations ran (`kryonix up`) and that the role has its grants"
        raise RegistryRefused(f"registry {where} refused: {_first_line(error)}. {remedy}") from error


def trust_fault(error: Exception, dsn: str) -> str:
    """Return why TLS with a DSN's server fails, and the remedy; empty if another reason keeps a connection away.

    libpq tells little of a certificate: the handshake is then repeated, for 5 seconds at most.
    """
    parts = address_parts(dsn)
    if _NO_FILE.search(str(error)):
        remedy = "`kryonix status` writes it where it runs, and `kryonix certificates ca print` prints it"
        return f"there is no file {parts.get('sslrootcert')!r} with the CA to trust. {remedy}"
    return why(error, host_port(str(parts.get("host")), parts.get("port", 5432))) or ""


def address_parts(dsn: str) -> dict[str, Any]:
    """Return a DSN's parts by their libpq names. Raises RegistryAddressInvalid."""
    with suppress(psycopg.ProgrammingError):
        parts = conninfo_to_dict(dsn)
        # An unencoded `@` or `/` ends the password early, and its rest would be shown as part of the address.
        if not any("@" in str(parts.get(name, "")) for name in ("host", "port", "dbname")):
            return parts
    raise RegistryAddressInvalid  # outside the block, so that libpq's error is not the context


def _shown(dsn: str) -> str:
    parts = address_parts(dsn)
    return f"{parts.get('user')}@{host_port(str(parts.get('host')), parts.get('port', 5432))}/{parts.get('dbname')}"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
