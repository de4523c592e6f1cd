"""The registry's tables, brought up to date by alembic."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.pool import NullPool

from kryonix.registry.errors import RegistryUnavailable, address_parts, translated

__all__ = ["SCHEMA", "SIGNUP_READS", "SIGNUP_SCHEMA", "current", "head", "upgrade"]

SCHEMA: Final = "tenants"
SIGNUP_SCHEMA: Final = "signup"
"""Where the signup service keeps its operations, jobs and keys."""

SIGNUP_READS: Final = ("desired_states", "rabbitmq_configurations")
"""The tables of tenants that the signup service's role may read."""

_CONNECT_TIMEOUT_S: Final = 5

_NOT_MADE: Final = re.compile(r"FATAL: .*(does not exist|password authentication failed|not permitted to log in)")
"""What a server says that has not, or no longer, the database or the role."""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "kryonix.registry:migrations")
    return config


def head() -> str:
    """The revision that the code wants."""
    (revision,) = ScriptDirectory.from_config(_config()).get_heads()
    return revision


def upgrade(dsn: str, revision: str = "head") -> None:
    """Run the migrations up to a revision, in one transaction, one run at a time.

    Raises RegistryUnavailable or RegistryRefused; the database is then as it was before.
    """
    config = _config()
    with _connected(dsn) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def current(dsn: str) -> str | None:
    """The revision that the tables are at; None where the server has no tables, no database or no such role.

    Raises RegistryUnavailable where no server answers.
    """
    try:
        with _connected(dsn) as connection:
            made = MigrationContext.configure(connection, opts={"version_table_schema": SCHEMA})
            return made.get_current_revision()
    except RegistryUnavailable as error:
        if _NOT_MADE.search(str(error)):
            return None
        raise


@contextmanager
def _connected(dsn: str) -> Iterator[sqlalchemy.Connection]:
    """A connection and a transaction, committed at the end."""
    parts = address_parts(dsn)
    url = sqlalchemy.URL.create(
        "postgresql+psycopg",
        username=str(parts.get("user")),
        password=str(parts.get("password")),
        host=str(parts.get("host")),
        port=int(parts.get("port") or 5432),
        database=str(parts.get("dbname")),
    )
    engine = sqlalchemy.create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": _CONNECT_TIMEOUT_S})
    with translated(dsn):
        try:
            with engine.begin() as connection:
                yield connection
        except sqlalchemy.exc.DBAPIError as error:
            if error.orig is not None:
                raise error.orig from error
            raise
