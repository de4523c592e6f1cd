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

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kryonix.engines.local.errors import PassphraseError

ROUNDS = 1_000_000
SALT_BYTES = 8
VERIFIER = "pulumi"
REMEDY = "set PULUMI_CONFIG_PASSPHRASE, or PULUMI_CONFIG_PASSPHRASE_FILE to a file that holds it"

_keys: dict[bytes, Future[bytes]] = {}
_keys_lock = Lock()


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


class Crypter:
    """Encrypt and decrypt one stack's secrets. A known value keeps its ciphertext: unchanged state stays the same."""

    def __init__(self, key: bytes, state: str) -> None:
        self.state = state
        self._cipher = AESGCM(key)
        self._seen: dict[tuple[str, str], str] = {}

    def __repr__(self) -> str:
        return "Crypter()"

    @classmethod
    def create(cls, passphrase: str, salt: bytes = b"") -> Crypter:
        """Return the crypter of a new stack, with a new salt if none is given."""
        salt = salt or os.urandom(SALT_BYTES)
        crypter = cls(_derive(passphrase, salt).result(), "")
        crypter.state = f"v1:{b64encode(salt).decode()}:{crypter.encrypt(VERIFIER)}"
        return crypter

    @classmethod
    def open(cls, passphrase: str, state: str, *, where: str) -> Crypter:
        """Return the crypter of a state string, found in `where`. Raise `PassphraseError` for another passphrase."""
        crypter = cls(_derive(passphrase, _salt_of(state, where)).result(), state)
        with suppress(PassphraseError):
            if crypter.decrypt(state.split(":", 2)[2]) == VERIFIER:
                return crypter
        raise PassphraseError(
            f"The passphrase is not the one that {where} was encrypted with: {_remedy()}. Nothing was changed."
        )

    def encrypt(self, plaintext: str, context: str = "") -> str:
        """Return the ciphertext of a value; the same again for a value already seen in this context."""
        known = self._seen.get((context, plaintext))
        if known is None:
            nonce = os.urandom(12)
            sealed = self._cipher.encrypt(nonce, plaintext.encode(), None)
            known = f"v1:{b64encode(nonce).decode()}:{b64encode(sealed).decode()}"
            if context:
                self._seen[context, plaintext] = known
        return known

    def decrypt(self, ciphertext: str, context: str = "") -> str:
        """Return the value of a ciphertext."""
        try:
            version, nonce, sealed = ciphertext.split(":")
            if version != "v1":
                raise ValueError(version)
            plaintext = self._cipher.decrypt(b64decode(nonce), b64decode(sealed), None).decode()
        except (ValueError, InvalidTag) as error:
            raise PassphraseError(f"A secret can't be decrypted with this passphrase: {REMEDY}.") from error
        if context:
            self._seen[context, plaintext] = ciphertext
        return plaintext


class Vault:
    """A crypter made on first use. Deriving its key takes half a second; `warm` starts early."""

    def __init__(self, state: str, *, where: str) -> None:
        """`state` is the salt and verifier, found in `where`; empty for a new stack."""
        self.state = state
        self._where = where
        self._new_salt = os.urandom(SALT_BYTES)
        self._lock = Lock()
        self._crypter: Crypter | None = None

    def warm(self) -> None:
        """Start to derive the key in the background, if a passphrase is set."""
        with suppress(PassphraseError):  # raised when the crypter is needed; without secrets it never is
            _derive(read_passphrase(), _salt_of(self.state, self._where) if self.state else self._new_salt)

    @property
    def crypter(self) -> Crypter:
        """The crypter. Raise `PassphraseError`."""
        with self._lock:
            if self._crypter is None:
                if self.state:
                    self._crypter = Crypter.open(read_passphrase(), self.state, where=self._where)
                else:
                    self._crypter = Crypter.create(read_passphrase(), self._new_salt)
            return self._crypter


def _salt_of(state: str, where: str) -> bytes:
    try:
        version, salt, verifier = state.split(":", 2)
        if version != "v1" or not verifier:
            raise ValueError(version)
        return b64decode(salt)
    except ValueError as error:
        raise PassphraseError(f"The encryption salt in {where} is not one of Pulumi's (v1:salt:verifier).") from error


def _derive(passphrase: str, salt: bytes) -> Future[bytes]:
    """Return the key, derived once per process, in a thread: OpenSSL releases the interpreter meanwhile."""
    name = hashlib.sha256(salt + passphrase.encode()).digest()
    with _keys_lock:
        future = _keys.get(name)
        if future is None:
            future = _keys[name] = Future()

            def derive() -> None:
                future.set_result(hashlib.pbkdf2_hmac("sha256", passphrase.encode(), salt, ROUNDS, 32))

            Thread(target=derive, daemon=True).start()
    return future
