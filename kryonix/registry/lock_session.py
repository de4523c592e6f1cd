"""Sessions that hold a lock for as long as they live."""

from __future__ import annotations

from typing import Final

from psycopg.rows import dict_row

from kryonix.registry.bounded import KEEPALIVES, BoundedConnection
from kryonix.registry.errors import address_parts
from kryonix.registry.rows import Connection

__all__ = ["open_session"]

_CONNECT_TIMEOUT_S: Final = 5

# A machine that vanishes says no goodbye. With its own settings the server would keep its session, and the locks that
# it holds, for two hours; with these it gives both up after 25 s of silence. On a Unix socket they mean nothing.
_KEEPALIVES: Final = "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"


def open_session(dsn: str) -> Connection:
    """A connection of its own, each of whose statements is a transaction. Raises psycopg's errors."""
    given = address_parts(dsn).get("options") or ""  # those of the DSN, which an argument would take the place of
    options = f"{given} {_KEEPALIVES}".strip()
    settings = {"connect_timeout": _CONNECT_TIMEOUT_S, **KEEPALIVES}
    return BoundedConnection.connect(dsn, autocommit=True, row_factory=dict_row, options=options, **settings)
