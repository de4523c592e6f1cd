"""What can go wrong with the registry, and the one place where a driver's errors become ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from kryonix.errors import KryonixError

__all__ = [
    "RegistryAddressInvalid",
    "RegistryError",
    "RegistryRefused",
    "RegistryUnavailable",
    "address_parts",
    "translated",
]


class RegistryError(KryonixError):
    """Base of every error of this package."""

    exit_status = 1


class RegistryAddressInvalid(RegistryError):
    """The DSN can't be read. Neither it nor libpq's text, which quotes it, is told: any part may be the password."""

    exit_status = 2

    def __init__(self) -> None:
        super().__init__(
            "the registry's address (registry_dsn) can't be read; it is not shown, as it may hold a password. It has "
            "to look like postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with special characters of the user and the "
            "password percent-encoded (`%` as %25, `@` as %40, `/` as %2F). Correct it, then run again"
        )


class RegistryUnavailable(RegistryError):
    """The database can't be reached or refuses the credentials."""

    exit_status = 3


class RegistryRefused(RegistryError):
    """The database was reached and refused a statement."""


@contextmanager
def translated(dsn: str) -> Iterator[None]:
    """Raise this package's errors for psycopg's, naming the database without its password."""
    where = _shown(dsn)
    try:
        yield
    except psycopg.OperationalError as error:
        remedy = "Check that PostgreSQL runs there and that the registry_dsn is right, then run again"
        raise RegistryUnavailable(f"registry {where} can't be used: {_first_line(error)}. {remedy}") from error
    except psycopg.Error as error:
        remedy = "Check that the migrations ran (`kryonix up`) and that the role has its grants"
        raise RegistryRefused(f"registry {where} refused: {_first_line(error)}. {remedy}") from error


def address_parts(dsn: str) -> dict[str, Any]:
    """A DSN's parts by their names in libpq. Raises RegistryAddressInvalid."""
    with suppress(psycopg.ProgrammingError):
        parts = conninfo_to_dict(dsn)
        # An `@` or `/` of the password's that is not encoded ends it too early: its rest would be told as an address.
        if not any("@" in str(parts.get(name, "")) for name in ("host", "port", "dbname")):
            return parts
    raise RegistryAddressInvalid  # out here, where libpq's error is not its context


def _shown(dsn: str) -> str:
    parts = address_parts(dsn)
    return f"{parts.get('user')}@{parts.get('host')}:{parts.get('port', 5432)}/{parts.get('dbname')}"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
