"""Pulumi's passphrase secrets provider: the same key, the same ciphertexts, so either engine reads the other's.

A stack's key is PBKDF2-SHA256 of the passphrase; its state string `v1:{salt}:v1:{nonce}:{ciphertext}` holds the
salt and the word `pulumi` encrypted, by which a wrong passphrase is known. Values are AES-256-GCM, written as
`v1:{nonce}:{ciphertext}`.
"""

from __future__ import annotations

import hashlib
import os
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from threading import Lock, Thread

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kryonix.engines.local.errors import PassphraseError

__all__ = ["Crypter", "Vault", "read_passphrase"]

ROUNDS = 1_000_000
VERIFIER = "pulumi"
REMEDY = "set PULUMI_CONFIG_PASSPHRASE, or PULUMI_CONFIG_PASSPHRASE_FILE to a file that holds it"

_keys: dict[bytes, Future[bytes]] = {}
_keys_lock = Lock()


def read_passphrase(environ: Mapping[str, str] = os.environ) -> str:
    """The passphrase where Pulumi looks for it. One that is empty on purpose counts; a file's ends are trimmed."""
    if "PULUMI_CONFIG_PASSPHRASE" in environ:
        return environ["PULUMI_CONFIG_PASSPHRASE"]
    file = environ.get("PULUMI_CONFIG_PASSPHRASE_FILE")
    if not file:
        raise PassphraseError(f"The stack's secrets need a passphrase and none is set: {REMEDY}.")
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise PassphraseError(f"PULUMI_CONFIG_PASSPHRASE_FILE names {file}, which can't be read: {error}") from error


class Crypter:
    """Encrypts and decrypts one stack's secrets. A value seen before keeps its ciphertext, so state stays the same."""

    def __init__(self, key: bytes, state: str) -> None:
        self.state = state
        self._cipher = AESGCM(key)
        self._seen: dict[tuple[str, str], str] = {}

    def __repr__(self) -> str:
        return "Crypter()"

    @classmethod
    def create(cls, passphrase: str, salt: bytes = b"") -> Crypter:
        """A crypter that is to be a new stack's, with a new salt where none is given."""
        salt = salt or _new_salt()
        crypter = cls(_derive(passphrase, salt).result(), "")
        crypter.state = f"v1:{b64encode(salt).decode()}:{crypter.encrypt(VERIFIER)}"
        return crypter

    @classmethod
    def open(cls, passphrase: str, state: str, *, where: str) -> Crypter:
        """The crypter of a state string, found in `where`. Raises `PassphraseError` for another passphrase."""
        crypter = cls(_derive(passphrase, _salt_of(state, where)).result(), state)
        try:
            right = crypter.decrypt(state.split(":", 2)[2]) == VERIFIER
        except PassphraseError:
            right = False
        if not right:
            raise PassphraseError(
                f"The passphrase is not the one that {where} was encrypted with: {REMEDY}. Nothing was changed."
            )
        return crypter

    def encrypt(self, plaintext: str, context: str = "") -> str:
        """The ciphertext of a value; the same one again for a value already met in this context."""
        known = self._seen.get((context, plaintext))
        if known is None:
            nonce = os.urandom(12)
            sealed = self._cipher.encrypt(nonce, plaintext.encode(), None)
            known = f"v1:{b64encode(nonce).decode()}:{b64encode(sealed).decode()}"
            if context:
                self._seen[context, plaintext] = known
        return known

    def decrypt(self, ciphertext: str, context: str = "") -> str:
        """The value of a ciphertext."""
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
    """A crypter that is made when first needed: deriving the key takes half a second, which starts at once."""

    def __init__(self, passphrase: Callable[[], str], state: str | None, *, where: str) -> None:
        self._passphrase = passphrase
        self._state = state
        self._where = where
        self._new_salt = _new_salt()
        self._lock = Lock()
        self._crypter: Crypter | None = None

    @property
    def state(self) -> str:
        """The salt and verifier it opens, empty for one that is to be made."""
        return self._state or ""

    def open_text(self, ciphertext: str) -> str:
        """The value of a ciphertext."""
        return self.crypter.decrypt(ciphertext)

    def warm(self) -> None:
        """Start deriving the key in the background, where there is a passphrase already."""
        try:
            _derive(self._passphrase(), _salt_of(self._state, self._where) if self._state else self._new_salt)
        except PassphraseError:
            return  # it is told to who needs the crypter; a stack without secrets never does

    @property
    def crypter(self) -> Crypter:
        """The crypter; raises `PassphraseError`."""
        with self._lock:
            if self._crypter is None:
                if self._state:
                    self._crypter = Crypter.open(self._passphrase(), self._state, where=self._where)
                else:
                    self._crypter = Crypter.create(self._passphrase(), self._new_salt)
            return self._crypter


def _new_salt() -> bytes:
    """Of the length that Pulumi's have."""
    return os.urandom(8)


def _salt_of(state: str, where: str) -> bytes:
    try:
        version, salt, verifier = state.split(":", 2)
        if version != "v1" or not verifier:
            raise ValueError(version)
        return b64decode(salt)
    except ValueError as error:
        raise PassphraseError(f"The encryption salt in {where} is not one of Pulumi's (v1:salt:verifier).") from error


def _derive(passphrase: str, salt: bytes) -> Future[bytes]:
    """The key, derived once per process and in a thread: OpenSSL lets go of the interpreter meanwhile."""
    name = hashlib.sha256(salt + passphrase.encode()).digest()
    with _keys_lock:
        future = _keys.get(name)
        if future is None:
            future = _keys[name] = Future()
            Thread(target=_fill, args=(future, passphrase, salt), daemon=True).start()
    return future


def _fill(future: Future[bytes], passphrase: str, salt: bytes) -> None:
    future.set_result(hashlib.pbkdf2_hmac("sha256", passphrase.encode(), salt, ROUNDS, 32))
