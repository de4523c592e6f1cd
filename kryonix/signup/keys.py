"""API keys: a name and a scope each. Only their hashes are stored."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, get_args

from kryonix.registry.connection import Connection
from kryonix.signup.database import QUERIES
from kryonix.signup.errors import InvalidKey, ScopeTooSmall

Scope = Literal["read", "write", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
"""In ascending order: each scope includes the ones before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A stored key."""

    id: str
    name: str
    scope: Scope
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    valid: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An authenticated caller. `secret` is part of the key and is stored nowhere."""

    key_id: str
    scope: Scope
    name: str = ""
    expires_at: datetime | None = None
    secret: str = field(repr=False)

    def must(self, needed: Scope) -> None:
        """Raise ScopeTooSmall unless the caller's scope includes `needed`."""
        if SCOPES.index(self.scope) < SCOPES.index(needed):
            raise ScopeTooSmall(self.scope, needed)


def create_key(connection: Connection, name: str, scope: Scope, days: int | None = None) -> str:
    """Create a key and return it. It is valid for `days`, or until it is revoked."""
    id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    values = {"id": id, "name": name, "scope": scope, "hash": digest_of(secret), "days": days}
    connection.execute(QUERIES["insert_api_key"], values)
    return f"kx_{id}_{secret}"


def fetch_keys(connection: Connection) -> list[ApiKey]:
    """Return all keys, oldest first."""
    return [ApiKey(**row) for row in connection.execute(QUERIES["fetch_api_keys"])]


def fetch_valid(connection: Connection, ids: Collection[str]) -> set[str]:
    """Return the ids of those keys that are valid now."""
    return {row["id"] for row in connection.execute(QUERIES["fetch_valid_api_keys"], {"ids": list(ids)})}


def revoke_key(connection: Connection, id: str) -> bool:
    """Revoke a key. Return False if there is no key with this id."""
    return connection.execute(QUERIES["revoke_api_key"], {"id": id}).fetchone() is not None


def authenticate(connection: Connection, presented: str) -> Caller:
    """Return the caller with this key. Raises InvalidKey without saying what is wrong with it."""
    prefix, _, rest = presented.partition("_")
    id, _, secret = rest.partition("_")
    if prefix != "kx" or not id.isalnum() or not id.isascii() or not secret:
        raise InvalidKey
    row = connection.execute(QUERIES["fetch_api_key"], {"id": id}).fetchone()
    if row is None or not hmac.compare_digest(bytes(row["hash"]), digest_of(secret)) or not row["valid"]:
        raise InvalidKey
    return Caller(key_id=row["id"], scope=row["scope"], name=row["name"], expires_at=row["expires_at"], secret=secret)


def digest_of(secret: str) -> bytes:
    """Return the hash under which a secret is stored or remembered."""
    return hashlib.sha256(secret.encode(errors="replace")).digest()
