"""Logins with which applications read their own tenant's model: one role a tenant, which sees one row."""

from __future__ import annotations

import secrets
import string
from typing import Final
from urllib.parse import quote

from kryonix.registry.connection import QUERIES, Connection
from kryonix.registry.errors import RoutingRefused, address_parts
from kryonix.topology.addresses import host_port
from kryonix.topology.credentials import PASSWORD_LENGTH, scram_verifier

_LETTERS: Final = string.ascii_letters + string.digits
_KEPT: Final = ("channel_binding", "hostaddr", "sslmode", "sslrootcert", "target_session_attrs")
"""Settings of the registry's address that say how the server is reached, and nothing of who logs in."""


def give_access(connection: Connection, registry_dsn: str, cliente_id: str) -> str:
    """Create a tenant's login, or give it a new password, and return its DSN. An earlier DSN ends.

    The DSN has the password: show it to nobody else. Raises RoutingRefused for an unknown tenant.
    """
    (row,) = connection.execute(QUERIES["routing_role"], {"id": cliente_id})
    password = "".join(secrets.choice(_LETTERS) for _ in range(PASSWORD_LENGTH))
    values = {"id": cliente_id, "verifier": scram_verifier(row["role"], password)}
    (given,) = connection.execute(QUERIES["grant_routing"], values)
    if given["role"] is None:
        raise RoutingRefused(f"the registry has no tenant {cliente_id!r}. `kryonix tenant list` shows those there are")
    return access_dsn(registry_dsn, given["role"], password)


def end_access(connection: Connection, cliente_id: str) -> bool:
    """Drop a tenant's login. Return False if there is none. Its open sessions see nothing any more."""
    (row,) = connection.execute(QUERIES["revoke_routing"], {"id": cliente_id})
    return bool(row["revoked"])


def has_access(connection: Connection, cliente_id: str) -> bool:
    """Return True if a tenant has a login."""
    (row,) = connection.execute(QUERIES["has_access"], {"id": cliente_id})
    return bool(row["given"])


def access_dsn(registry_dsn: str, role: str, password: str) -> str:
    """Return the registry's DSN with another login, as an address."""
    parts = address_parts(registry_dsn)
    where = host_port(str(parts.get("host", "localhost")), parts.get("port", 5432))
    query = "&".join(f"{name}={quote(str(parts[name]), safe='/')}" for name in _KEPT if name in parts)
    database = quote(str(parts.get("dbname", "")), safe="")
    return f"postgresql://{role}:{password}@{where}/{database}{f'?{query}' if query else ''}"
