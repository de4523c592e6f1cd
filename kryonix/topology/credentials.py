"""Passwords as the broker and the database keep them: salted hashes, which restore a user without knowing the password.

Salts are derived from the user and the password, so that a deployment run again produces the same hash and changes
nothing. Passwords here are generated, 32 random characters: a random salt would add nothing to them.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from typing import Final

__all__ = ["PASSWORD_LENGTH", "rabbitmq_hash", "scram_verifier"]

PASSWORD_LENGTH: Final = 32
"""Characters of a generated password, of letters and digits: safe in a URI without quoting."""

_SCRAM_ITERATIONS: Final = 4096  # PostgreSQL's own default, scram_iterations


def rabbitmq_hash(user: str, password: str) -> str:
    """RabbitMQ's salted SHA-256, as `password_hash` in definitions and in the management API.

    https://www.rabbitmq.com/docs/passwords#computing-password-hash
    """
    return _salted(_salt(user, password)[:4], password)


def is_hash_of(found: str, password: str) -> bool:
    """Return True if a broker's `password_hash`, whatever its salt, is that of this password."""
    try:
        salt = b64decode(found, validate=True)[:4]
    except ValueError:
        return False
    return hmac.compare_digest(_salted(salt, password).encode(), found.encode())


def scram_verifier(user: str, password: str) -> str:
    """PostgreSQL's SCRAM-SHA-256 verifier, which it accepts wherever a password is set and stores as it is.

    https://www.postgresql.org/docs/current/catalog-pg-authid.html
    """
    salt = _salt(user, password)[:16]
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _SCRAM_ITERATIONS)
    stored = hashlib.sha256(_hmac(salted, b"Client Key")).digest()
    server = _hmac(salted, b"Server Key")
    salt_text, stored_text, server_text = (b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256${_SCRAM_ITERATIONS}:{salt_text}${stored_text}:{server_text}"


def _salted(salt: bytes, password: str) -> str:
    return b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def _salt(user: str, password: str) -> bytes:
    return _hmac(password.encode(), b"kryonix salt of " + user.encode())


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, "sha256").digest()
