"""What can go wrong with the registry, and the one place where a driver's errors become ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import conninfo_to_dict

__all__ = ["RegistryError", "RegistryRefused", "RegistryUnavailable", "translated"]


class RegistryError(Exception):
    """Base of every error of this package."""

    exit_status = 1


class RegistryUnavailable(RegistryError):
    """The database can't be reached or refuses the credentials."""

    exit_status = 3


class RegistryRefused(RegistryError):
    """The database was reached and refused a statement."""


@contextmanager
def translated(dsn: str) -> Iterator[None]:
    """Raise this package's errors for psycopg's, naming the database without its password."""
    try:
        yield
    except psycopg.OperationalError as error:
        remedy = "Check that PostgreSQL runs there and that the registry_dsn is right, then run again"
        raise RegistryUnavailable(f"registry {_shown(dsn)} can't be used: {_first_line(error)}. {remedy}") from error
    except psycopg.Error as error:
        remedy = "Check that the migrations ran (`kryonix up`) and that the role has its grants"
        raise RegistryRefused(f"registry {_shown(dsn)} refused: {_first_line(error)}. {remedy}") from error


def _shown(dsn: str) -> str:
    parts = conninfo_to_dict(dsn)
    return f"{parts.get('user')}@{parts.get('host')}:{parts.get('port', 5432)}/{parts.get('dbname')}"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
