"""Have PostgreSQL load its certificate again: it does not look at the file by itself."""

from __future__ import annotations

from typing import Final

import psycopg

from kryonix.certificates.trust import why
from kryonix.errors import ServiceUnreachable

_TIMEOUT_S: Final = 5


def reload_postgres(dsn: str) -> None:
    """Have the server reload its configuration, as a role that may do nothing else. Raises ServiceUnreachable.

    The server's certificate is not verified: only a reload puts right one that has expired, or whose CA is trusted no
    longer. Nothing is to be had by posing as the server: the password is proven and not sent (SCRAM), and nothing is
    read. The keeper judges what is served then by a handshake of its own.
    """
    options = {"sslmode": "require", "sslrootcert": "", "require_auth": "scram-sha-256"}
    try:
        with psycopg.connect(dsn, **options, connect_timeout=_TIMEOUT_S, autocommit=True) as connection:  # type: ignore[arg-type] # options are no positional arguments
            connection.execute("SELECT pg_reload_conf()")
    except psycopg.Error as error:
        reason = why(error, "PostgreSQL") or str(error).strip()
        raise ServiceUnreachable(f"PostgreSQL can't be told to load its certificate: {reason}") from error
