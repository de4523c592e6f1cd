"""A lock per tenant among all processes. It ends with its connection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg

from kryonix.registry.connection import open_session
from kryonix.registry.errors import translated
from kryonix.registry.sql import QUERIES


@contextmanager
def held(dsn: str, cliente_id: str) -> Iterator[bool]:
    """Lock the tenant during the block, without waiting. Yields False if another process holds it."""
    with translated(dsn):
        # In autocommit mode: a transaction open for minutes would keep the database from vacuuming old rows.
        connection = open_session(dsn)
    try:
        with translated(dsn):
            row = connection.execute(QUERIES["hold_tenant"], {"id": cliente_id}).fetchone()
        yield row is not None and bool(row["held"])
    finally:
        with suppress(psycopg.Error):
            connection.close()
