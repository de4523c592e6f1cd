"""Pulumi's passphrase secrets provider: keys and ciphertexts are interchangeable with the Pulumi CLI's.

A stack's key is PBKDF2-SHA256 of the passphrase; its state string `v1:{salt}:v1:{nonce}:{ciphertext}` holds the
salt and the encrypted word `pulumi`, to verify a passphrase. Values are AES-256-GCM, written as
`v1:{nonce}:{ciphertext}`.
"""

from __future__ import annotations

import hashlib
import os
from base64 import b64decode, b64encode
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from threading import Lock, Thread
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from kryonix.engines.local.errors import PassphraseError

ROUNDS = 1_000_000
SALT_BYTES = 8
VERIFIER = "pulumi"
REMEDY = "set PULUMI_CONFIG_PASSPHRASE, or PULUMI_CONFIG_PASSPHRASE_FILE to a file that holds it"


def _remedy() -> str:
    """Return how to set the passphrase; with the demo's file, if it is here."""
    made = Path(".kryonix", "passphrase")
    return f"{REMEDY}, here `export PULUMI_CONFIG_PASSPHRASE_FILE=$PWD/{made}`" if made.is_file() else REMEDY


def read_passphrase(environ: Mapping[str, str] = os.environ) -> str:
    """Return the passphrase from Pulumi's variables; a set but empty one counts. Raise `PassphraseError`."""
    if "PULUMI_CONFIG_PASSPHRASE" in environ:
        return environ["PULUMI_CONFIG_PASSPHRASE"]
    file = environ.get("PULUMI_CONFIG_PASSPHRASE_FILE")
    if not file:
        raise PassphraseError(f"The stack's secrets need a passphrase and none is set: {_remedy()}.")
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise PassphraseError(f"PULUMI_CONFIG_PASSPHRASE_FILE is {file}, which can't be read: {error}") from error


class Vault:
    """The secrets of one stack. Its key is derived on first use, which takes a tenth of a second or more; `warm`
    starts early.

    A known value keeps its ciphertext: unchanged state stays the same.
    """

    def __init__(self, state: str = "", *, where: str = "a new stack") -> None:
        """`state` is the salt and verifier, found in `where`; empty for a new stack."""
        self._state = state
        self._where = where
        self._new_salt = os.urandom(SALT_BYTES)
        self._lock = Lock()
        self._cipher: AESGCM | None = None
        self._seen: dict[tuple[str, str], str] = {}

    @property
    def state(self) -> str:
        """The salt and verifier, made for a new stack. Raise `PassphraseError`."""
        self._opened()
        return self._state

    def warm(self) -> None:
        """Start to derive the key in the background, if a passphrase is set."""
        with suppress(PassphraseError):  # raised when the key is needed; without secrets it never is
            self._key()

    def encrypt(self, plaintext: str, context: str = "") -> str:
        """Return the ciphertext of a value; the same again for a value already seen in this context."""
        known = self._seen.get((context, plaintext))
        if known is None:
            known = _sealed(self._opened(), plaintext)
            if context:
                self._seen[context, plaintext] = known
        return known

    def decrypt(self, ciphertext: str, context: str = "") -> str:
        """Return the value of a ciphertext."""
        plaintext = _unsealed(self._opened(), ciphertext)
        if plaintext is None:
            raise PassphraseError(f"A secret can't be decrypted with this passphrase: {REMEDY}.")
        if context:
            self._seen[context, plaintext] = ciphertext
        return plaintext

    def _opened(self) -> AESGCM:
        with self._lock:
            if self._cipher is None:
                cipher = AESGCM(self._key().result())
                if not self._state:
                    self._state = f"v1:{b64encode(self._new_salt).decode()}:{_sealed(cipher, VERIFIER)}"
                elif _unsealed(cipher, self._state.split(":", 2)[2]) != VERIFIER:
                    raise PassphraseError(
                        f"The passphrase is not the one that {self._where} was encrypted with: {_remedy()}. Nothing "
                        "was changed."
                    )
                self._cipher = cipher
            return self._cipher

    def _key(self) -> Future[bytes]:
        return KEYS.derive(read_passphrase(), _salt_of(self._state, self._where) if self._state else self._new_salt)


def _sealed(cipher: AESGCM, plaintext: str) -> str:
    nonce = os.urandom(12)
    sealed = cipher.encrypt(nonce, plaintext.encode(), None)
    return f"v1:{b64encode(nonce).decode()}:{b64encode(sealed).decode()}"


def _unsealed(cipher: AESGCM, ciphertext: str) -> str | None:
    """Return the value of a ciphertext, None if it is another key's."""
    try:
        version, nonce, sealed = ciphertext.split(":")
        if version == "v1":
            return cipher.decrypt(b64decode(nonce), b64decode(sealed), None).decode()
    except (ValueError, InvalidTag):
        pass
    return None


def _salt_of(state: str, where: str) -> bytes:
    try:
        version, salt, verifier = state.split(":", 2)
        if version != "v1" or not verifier:
            raise ValueError(version)
        return b64decode(salt)
    except ValueError as error:
        raise PassphraseError(f"The encryption salt in {where} is not one of Pulumi's (v1:salt:verifier).") from error


class Keys:
    """The keys that this process knows, each derived once. A name tells nothing of its key or passphrase."""

    def __init__(self) -> None:
        self._keys: dict[bytes, Future[bytes]] = {}
        self._lock = Lock()

    def derive(self, passphrase: str, salt: bytes) -> Future[bytes]:
        """Return the key of a salt, derived in a thread: OpenSSL releases the interpreter meanwhile.

        By the OpenSSL of cryptography: that of Python is often older, and takes twice as long.
        """
        name = hashlib.sha256(salt + passphrase.encode()).digest()
        with self._lock:
            future = self._keys.get(name)
            if future is None:
                future = self._keys[name] = Future()

                def derive() -> None:
                    function = PBKDF2HMAC(algorithm=SHA256(), length=32, salt=salt, iterations=ROUNDS)
                    future.set_result(function.derive(passphrase.encode()))

                Thread(target=derive, daemon=True).start()
        return future

    def known(self) -> dict[bytes, bytes]:
        """Return the keys derived so far, by name."""
        with self._lock:
            return {name: future.result() for name, future in self._keys.items() if future.done()}

    def learn(self, keys: Mapping[bytes, bytes]) -> None:
        """Take over keys that another process has derived."""
        with self._lock:
            for name, key in keys.items():
                if name not in self._keys:
                    future = self._keys[name] = Future()
                    future.set_result(key)


KEYS: Final = Keys()
