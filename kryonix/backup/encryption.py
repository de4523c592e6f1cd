"""Keys of age: the recipients that a bundle is encrypted for, and the identities that open it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

import pyrage

from kryonix.backup.errors import InvalidBundle, InvalidKey, WrongKey

_RECIPIENTS: Final[Sequence[tuple[str, Callable[[str], Any]]]] = (
    ("age1tagpq1", pyrage.tagpq.Recipient.from_str),
    ("age1tag1", pyrage.tag.Recipient.from_str),
    ("age1", pyrage.x25519.Recipient.from_str),
    ("ssh-", pyrage.ssh.Recipient.from_str),
)
"""How a recipient is read, by its beginning."""
_KINDS: Final = "a line `age1...`, `ssh-ed25519 ...` or `ssh-rsa ...`"
_LARGEST: Final = 1024 * 1024
_NO_MATCH: Final = "No matching keys found"
"""What pyrage says when no identity opens a file."""


@dataclass(frozen=True, slots=True)
class Recipients:
    """Public keys that bundles are encrypted for. `lines` are their text, without comments."""

    lines: tuple[str, ...]
    _keys: tuple[Any, ...] = field(repr=False)

    @classmethod
    def parse(cls, text: str, source: str = "recipients") -> Self:
        """Return the recipients of a text as `age -R` reads it: one a line, and comments with `#`."""
        keys = {line: _recipient(line, f"{source}, line {number}") for number, line in _lines(text)}
        if not keys:
            raise InvalidKey(f"{source}: there is no recipient in it. Give {_KINDS}")
        return cls(tuple(keys), tuple(keys.values()))

    @classmethod
    def read(cls, files: Iterable[Path]) -> Self:
        """Return the recipients of all files."""
        return cls.joined(cls.parse(_text(file), str(file)) for file in files)

    @classmethod
    def joined(cls, several: Iterable[Self]) -> Self:
        """Return the recipients of several as one, each once."""
        keys = {line: key for each in several for line, key in zip(each.lines, each._keys, strict=True)}
        return cls(tuple(keys), tuple(keys.values()))

    def encrypt(self, data: bytes) -> bytes:
        return bytes(pyrage.encrypt(data, list(self._keys)))


@dataclass(frozen=True, slots=True)
class Identities:
    """Private keys that open bundles."""

    _keys: tuple[Any, ...] = field(repr=False)

    @classmethod
    def parse(cls, text: str, source: str = "identities") -> Self:
        """Return the identities of a text as `age -i` reads it: an SSH key, or one a line and comments with `#`."""
        if "-----BEGIN" in text:
            return cls((_ssh_identity(text, source),))
        keys = tuple(_identity(line, f"{source}, line {number}") for number, line in _lines(text))
        if not keys:
            raise InvalidKey(f"{source}: there is no identity in it. Make one with `kryonix backup keygen FILE`")
        return cls(keys)

    @classmethod
    def read(cls, files: Iterable[Path]) -> Self:
        """Return the identities of all files."""
        return cls(tuple(key for file in files for key in cls.parse(_text(file), str(file))._keys))

    def recipients(self, source: str = "identities") -> Recipients:
        """Return the recipients of the identities that are not SSH keys. Raises InvalidKey if there is none."""
        keys = [str(key.to_public()) for key in self._keys if isinstance(key, pyrage.x25519.Identity)]
        if not keys:
            raise InvalidKey(f"{source}: is an SSH key. Give one that `kryonix backup keygen` wrote")
        return Recipients.parse("\n".join(keys), source)

    def decrypt(self, data: bytes, where: str) -> bytes:
        """Return the plain bytes. Raises WrongKey or InvalidBundle, which name `where`."""
        try:
            return bytes(pyrage.decrypt(data, list(self._keys)))
        except pyrage.DecryptError as error:
            if str(error) == _NO_MATCH:
                raise WrongKey(where) from None
            reason = f"is not encrypted by age, or damaged or truncated ({error})"
            raise InvalidBundle(where, reason) from None


def new_identity(path: Path) -> str:
    """Write a new identity to a file that only its owner may read, as age-keygen does. Return its recipient."""
    identity = pyrage.x25519.Identity.generate()
    recipient = str(identity.to_public())
    created = datetime.now(UTC).isoformat(timespec="seconds")
    text = f"# created: {created}\n# public key: {recipient}\n{identity}\n"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise InvalidKey(f"{path} exists already, and a key is never written over: bundles may need it") from None
    except OSError as error:
        raise InvalidKey(f"{path}: can't be written ({error.strerror})") from None
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink()
        raise InvalidKey(f"{path}: can't be written ({error.strerror})") from None
    return recipient


def _text(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            content = opened.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise InvalidKey(f"{file}: has more than {_LARGEST} bytes, which no file of age keys has")
        return content.decode()
    except OSError as error:
        raise InvalidKey(f"{file}: can't be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InvalidKey(f"{file}: is not a text file of age keys") from None


def _lines(text: str) -> Iterable[tuple[int, str]]:
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


def is_private(line: str) -> bool:
    """Return True for the text of an identity, which no message may show."""
    return line.strip().upper().startswith("AGE-SECRET-KEY-")


def _recipient(line: str, source: str) -> Any:
    if is_private(line):
        raise InvalidKey(f"{source}: is a private key, not a recipient. Give the `age1...` of its comment")
    for prefix, read in _RECIPIENTS:
        if line.startswith(prefix):
            try:
                return read(line)
            except pyrage.RecipientError as error:
                raise InvalidKey(f"{source}: {line[:80]!r} is not a valid recipient ({error})") from None
    # The line is not shown: whoever mistook the file may have given one with a password.
    raise InvalidKey(f"{source}: is not a recipient. Give {_KINDS}")


def _identity(line: str, source: str) -> Any:
    try:
        return pyrage.x25519.Identity.from_str(line)
    except pyrage.IdentityError:
        rule = "give a line `AGE-SECRET-KEY-1...`, or the file of an SSH key without a passphrase"
        raise InvalidKey(f"{source}: is not a valid identity: {rule}") from None


def _ssh_identity(text: str, source: str) -> Any:
    try:
        return pyrage.ssh.Identity.from_buffer(text.encode())
    except pyrage.IdentityError:
        rule = "give an ed25519 or RSA key without a passphrase (age's own encrypted files are not read either)"
        raise InvalidKey(f"{source}: is not a valid SSH key: {rule}") from None
