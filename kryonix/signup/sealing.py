"""Credentials on their way from the worker to the caller: readable to neither database nor service in between.

The caller gets a private key with the answer to its request, the operation keeps the public one. What the worker makes
is encrypted for that key (X25519 with a key of its own, HKDF-SHA256, AES-256-GCM), and only who sends the private key
has it opened. With an Idempotency-Key the private key is derived from it and from the API key, so that a request that
is sent again is answered the same, and still nothing is kept.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kryonix.signup.errors import WrongCredentialsKey

__all__ = ["derive_key", "open_sealed", "public_of", "random_key", "seal"]

_SIZE: Final = 32
_NONCE: Final = 12


def random_key() -> str:
    """A private key, as it is given to the caller."""
    return _text(os.urandom(_SIZE))


def derive_key(secret: str, idempotency_key: str, fingerprint: bytes) -> str:
    """The private key of a request that may be sent again: the same for the same API key, request and key."""
    info = b"kryonix signup credentials\0" + fingerprint
    return _text(_derived(secret.encode(), idempotency_key.encode(), info))


def public_of(private: str) -> bytes:
    """The public key that belongs to a private one. Raises WrongCredentialsKey for what is none."""
    return _private(private).public_key().public_bytes_raw()


def seal(public: bytes, context: str, content: Mapping[str, Any]) -> bytes:
    """Encrypt for a public key; `context` has to be the same when it is opened."""
    own = X25519PrivateKey.generate()
    head, nonce = own.public_key().public_bytes_raw(), os.urandom(_NONCE)
    key = _shared(own, X25519PublicKey.from_public_bytes(public), head + public)
    return head + nonce + AESGCM(key).encrypt(nonce, json.dumps(content).encode(), context.encode())


def open_sealed(private: str, context: str, sealed: bytes) -> dict[str, Any]:
    """Decrypt. Raises WrongCredentialsKey where the private key is not the one it was sealed for."""
    key = _private(private)
    head, nonce, content = sealed[:_SIZE], sealed[_SIZE : _SIZE + _NONCE], sealed[_SIZE + _NONCE :]
    shared = _shared(key, X25519PublicKey.from_public_bytes(head), head + key.public_key().public_bytes_raw())
    try:
        opened: dict[str, Any] = json.loads(AESGCM(shared).decrypt(nonce, content, context.encode()))
    except InvalidTag as error:
        raise WrongCredentialsKey from error
    return opened


def _shared(private: X25519PrivateKey, public: X25519PublicKey, salt: bytes) -> bytes:
    return _derived(private.exchange(public), salt, b"kryonix sealed credentials")


def _derived(material: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=_SIZE, salt=salt, info=info).derive(material)


def _private(text: str) -> X25519PrivateKey:
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (ValueError, binascii.Error) as error:
        raise WrongCredentialsKey from error
    if len(raw) != _SIZE:
        raise WrongCredentialsKey
    return X25519PrivateKey.from_private_bytes(raw)


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
