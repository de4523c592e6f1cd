"""Encrypt credentials on their way from the worker to the caller (HPKE, RFC 9180).

The caller receives a private key with the answer to its request; the operation keeps the public one. The worker
encrypts the credentials for that key, so neither the database nor the service can read them in between. With an
Idempotency-Key the private key is derived from it and from the API key: a repeated request gets the same answer, and
the key is still stored nowhere.
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
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kryonix.signup.errors import WrongCredentialsKey

_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_INFO: Final = b"kryonix sealed credentials"
_MARK: Final = b"hpke\x01"
"""Starts every seal. A seal without it was made by a release before HPKE."""
_SIZE: Final = 32
_NONCE: Final = 12


def random_key() -> str:
    """Return a new private key, in the text form that callers receive."""
    return _text(os.urandom(_SIZE))


def derive_key(secret: str, idempotency_key: str, fingerprint: bytes) -> str:
    """Return the private key of a repeatable request: the same for the same API key, request and idempotency key."""
    info = b"kryonix signup credentials\0" + fingerprint
    return _text(_derived(secret.encode(), idempotency_key.encode(), info))


def public_of(private: str) -> bytes:
    """Return the public key of a private one. Raises WrongCredentialsKey if it is malformed."""
    return _private(private).public_key().public_bytes_raw()


def seal(public: bytes, context: str, content: Mapping[str, Any]) -> bytes:
    """Encrypt for a public key. The same `context` is needed to open it."""
    key = X25519PublicKey.from_public_bytes(public)
    return _MARK + _SUITE.encrypt(json.dumps(content).encode(), key, _info(context))


def open_sealed(private: str, context: str, sealed: bytes) -> dict[str, Any]:
    """Decrypt. Raises WrongCredentialsKey if it was sealed for another key or context."""
    key = _private(private)
    try:
        if sealed.startswith(_MARK):
            plain = _SUITE.decrypt(sealed.removeprefix(_MARK), key, _info(context))
        else:
            plain = _open_older(key, context, sealed)
    except (InvalidTag, ValueError) as error:
        raise WrongCredentialsKey from error
    opened: dict[str, Any] = json.loads(plain)
    return opened


def _open_older(key: X25519PrivateKey, context: str, sealed: bytes) -> bytes:
    """Open a seal of a release before HPKE. Seals live for a day at most, so the release after next can drop this."""
    head, nonce, content = sealed[:_SIZE], sealed[_SIZE : _SIZE + _NONCE], sealed[_SIZE + _NONCE :]
    salt = head + key.public_key().public_bytes_raw()
    shared = _derived(key.exchange(X25519PublicKey.from_public_bytes(head)), salt, _INFO)
    return AESGCM(shared).decrypt(nonce, content, context.encode())


def _info(context: str) -> bytes:
    return _INFO + b"\0" + context.encode()


def _derived(material: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=_SIZE, salt=salt, info=info).derive(material)


def _private(text: str) -> X25519PrivateKey:
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return X25519PrivateKey.from_private_bytes(raw)
    except (ValueError, binascii.Error) as error:
        raise WrongCredentialsKey from error


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
