"""Generations of credentials, and password hashes for the broker and the database.

Salts are derived from the user and the password, so a repeated deployment produces the same hash and changes
nothing. The passwords are 32 random characters: a random salt would add nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64decode, b64encode
from typing import Any, Final

from pydantic import Field, ValidationInfo, field_validator

from kryonix.topology.document import Document, Model, validated

PASSWORD_LENGTH: Final = 32
"""Length of a generated password of letters and digits: safe in a URI without quoting."""

_SCRAM_ITERATIONS: Final = 4096  # PostgreSQL's own default, scram_iterations

_BCRYPT_ROUNDS: Final = 10  # as Prometheus' own documentation; 50 ms, and the servers remember who has logged in


class Generations(Model):
    """The current generation of a tenant's credentials, and an older one still working. Each is a user."""

    generation: int = Field(1, ge=1, description="The current generation, counted from 1")
    retiring: int | None = Field(None, ge=1, description="An older generation whose user still works")

    @field_validator("retiring")
    @classmethod
    def _older(cls, value: int | None, info: ValidationInfo) -> int | None:
        current = info.data.get("generation")
        if value is not None and current is not None and value >= current:
            raise ValueError(f"{value} is not older than the current generation, {current}. Give an older one or none")
        return value

    @property
    def all(self) -> tuple[int, ...]:
        """Return every working generation, the current one first."""
        return (self.generation,) if self.retiring is None else (self.generation, self.retiring)


def parse_generations(value: Any, file: str) -> Generations:
    """Return the generations in a stack's config. Raises InvalidInput with every problem."""
    return validated(Generations, Document(file, value, {}))


def rabbitmq_hash(user: str, password: str) -> str:
    """Return RabbitMQ's salted SHA-256, the `password_hash` of definitions and of the management API.

    A user without a password, which can only log in with a certificate, has an empty one.

    https://www.rabbitmq.com/docs/passwords#computing-password-hash
    """
    return _salted(_salt(user, password)[:4], password) if password else ""


def is_hash_of(found: str, password: str) -> bool:
    """Return True if a broker's `password_hash`, with any salt, belongs to this password, which may be none."""
    if not password or not found:
        return found == password
    try:
        salt = b64decode(found, validate=True)[:4]
    except ValueError:
        return False
    return hmac.compare_digest(_salted(salt, password).encode(), found.encode())


def scram_verifier(user: str, password: str) -> str:
    """Return a SCRAM-SHA-256 verifier: PostgreSQL accepts it in place of a password, and stores it unchanged.

    https://www.postgresql.org/docs/current/catalog-pg-authid.html
    """
    return _verifier(password, _salt(user, password)[:16], _SCRAM_ITERATIONS)


def bcrypt_hash(user: str, password: str) -> str:
    """Return a bcrypt hash, as the `basic_auth_users` of Prometheus and Alertmanager are.

    https://prometheus.io/docs/prometheus/latest/configuration/https/
    """
    import bcrypt  # a tenant's own stack, created while a customer waits, hashes none

    # bcrypt writes base64 in an alphabet of its own, the last of 22 letters with two bits of four.
    salt = b64encode(_salt(user, password)[:16], altchars=b"./").decode()[:21] + "."
    return bcrypt.hashpw(password.encode(), f"$2b${_BCRYPT_ROUNDS}${salt}".encode()).decode()


def is_verifier_of(found: str, password: str) -> bool:
    """Return True if a server's SCRAM-SHA-256 verifier, with any salt, belongs to this password or is the same one."""
    parts = re.fullmatch(r"SCRAM-SHA-256\$(\d+):([^$]+)\$.+", found)
    if not parts or password.startswith("SCRAM-SHA-256$"):
        return found == password
    return hmac.compare_digest(_verifier(password, b64decode(parts[2]), int(parts[1])), found)


def _verifier(password: str, salt: bytes, iterations: int) -> str:
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(_hmac(salted, b"Client Key")).digest()
    server = _hmac(salted, b"Server Key")
    salt_text, stored_text, server_text = (b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256${iterations}:{salt_text}${stored_text}:{server_text}"


def _salted(salt: bytes, password: str) -> str:
    return b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def _salt(user: str, password: str) -> bytes:
    return _hmac(password.encode(), b"kryonix salt of " + user.encode())


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, "sha256").digest()
