"""Migrations of the registry's tables, run by alembic."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy.pool import NullPool

from kryonix.registry.connection import CONNECT_TIMEOUT_S, SCHEMA, given_settings
from kryonix.registry.errors import RegistryNotMade, translated


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "kryonix.registry:migrations")
    return config


def upgrade(dsn: str, revision: str = "head") -> None:
    """Migrate up to a revision in one transaction, one run at a time.

    Raises RegistryUnavailable or RegistryRefused and leaves the database unchanged.
    """
    config = _config()
    with _connected(dsn) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def current(dsn: str) -> str | None:
    """Return the tables' revision, or None if the tables, the database or the role do not exist.

    Raises RegistryUnavailable if no server answers.
    """
    try:
        with _connected(dsn) as connection:
            made = MigrationContext.configure(connection, opts={"version_table_schema": SCHEMA})
            return made.get_current_revision()
    except RegistryNotMade:
        return None


@contextmanager
def _connected(dsn: str) -> Iterator[sqlalchemy.Connection]:
    """Open a connection with a transaction, committed at the end of the block."""
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://",
        poolclass=NullPool,
        creator=lambda: psycopg.connect(dsn, connect_timeout=CONNECT_TIMEOUT_S, **given_settings(dsn)),
    )
    with translated(dsn):
        try:
            with engine.begin() as connection:
                yield connection
        except sqlalchemy.exc.DBAPIError as error:
            if error.orig is not None:
                raise error.orig from error
            raise
