"""One operation at a time on a tenant, among all processes: a lock of the database's, gone with who holds it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg

from kryonix.registry.errors import translated
from kryonix.registry.lock_session import open_session
from kryonix.registry.sql import QUERIES

__all__ = ["held"]


@contextmanager
def held(dsn: str, cliente_id: str) -> Iterator[bool]:
    """Whether the tenant is this block's alone. It is not waited for."""
    with translated(dsn):
        # Its own connection and no transaction: it may be held for minutes, and would keep old rows from being cleared.
        connection = open_session(dsn)
    try:
        with translated(dsn):
            row = connection.execute(QUERIES["hold_tenant"], {"id": cliente_id}).fetchone()
        yield row is not None and bool(row["held"])
    finally:
        with suppress(psycopg.Error):
            connection.close()
