"""Stores of bundles: a folder here, and object storage in `object_store`. A name is written once, never over."""

from __future__ import annotations

import os
import re
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from kryonix.backup.errors import BundleExists, InvalidAddress, StoreUnreachable, UnknownBundle

LARGEST: Final = 1024**3
"""Bytes of the largest file that a store hands out. A bundle is smaller."""
_CREDENTIALS: Final = re.compile(r"(?<=://)[^/]*@|\?.*")
_PART: Final = ".part"
_ABANDONED_S: Final = 3600


@dataclass(frozen=True, slots=True)
class StoredBundle:
    """A file of a store. `modified` is when it was written, by the store's clock."""

    name: str
    bytes: int
    modified: datetime


class BundleStore(ABC):
    """A place for bundles. Names are paths with `/` below `address`, which never holds credentials.

    Every method raises StoreUnreachable for a store that does not answer, refuses, or is full.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")

    @staticmethod
    def open(address: str) -> BundleStore:
        """Return the store of an address: a folder's path, `s3://`, `gs://` or `az://`. Nothing is connected yet."""
        scheme, separator, _ = address.partition("://")
        if not separator:
            if not address.isprintable() or not address.strip():
                raise InvalidAddress(f"{address[:80]!a} is not the path of a folder: it has no, or hidden, characters")
            if os.path.exists(address) and not os.path.isdir(address):  # noqa: PTH110,PTH112  those of Path may raise
                raise InvalidAddress(f"{address} is not a folder. Give one, or s3://BUCKET/PREFIX, gs://… or az://…")
            return FolderStore(Path(address))
        if _CREDENTIALS.search(address):
            shown = _CREDENTIALS.sub("", address)
            raise InvalidAddress(f"{shown}: credentials don't belong into an address. Leave out `user@` and `?...`")
        from kryonix.backup.object_store import SCHEMES, ObjectStore  # the library takes 0.1 s to import

        if scheme not in SCHEMES:
            known = ", ".join(f"{each}://" for each in SCHEMES)
            raise InvalidAddress(f"{scheme}:// is not a store of backups. Use a folder, or one of {known}")
        return ObjectStore(address)

    def put(self, name: str, data: bytes) -> None:
        """Write a file, durably and whole, and read it back. Raises BundleExists where another has the name."""
        try:
            self._create(name, data)
        except (BundleExists, UnknownBundle):  # unknown: the upload whose end is asked for a second time
            # An attempt whose answer was lost has written it: each encryption of the same data differs.
            if self._found(name) != data:
                raise
            return
        if self._found(name) != data:
            self.delete(name)
            raise StoreUnreachable(f"{self.address_of(name)} read back is not what was written; it was deleted again")

    def check(self) -> None:
        """Raise StoreUnreachable if no bundle can be written now, as far as that can be told without writing one."""
        self.list()

    def address_of(self, name: str) -> str:
        return f"{self.address}/{name}"

    def _found(self, name: str) -> bytes | None:
        with suppress(UnknownBundle):
            return self.get(name)
        return None

    @abstractmethod
    def _create(self, name: str, data: bytes) -> None: ...

    @abstractmethod
    def get(self, name: str) -> bytes:
        """Return a file's bytes. Raises UnknownBundle."""

    @abstractmethod
    def list(self, prefix: str = "") -> Sequence[StoredBundle]:
        """Return the files whose names begin with `prefix`, a folder that ends with `/`, sorted by name."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Delete a file, if it is there."""

    def checked_size(self, name: str, size: int) -> None:
        if size > LARGEST:
            raise StoreUnreachable(f"{self.address_of(name)} has {size} bytes, and no bundle has more than {LARGEST}")


class FolderStore(BundleStore):
    """A folder. A file appears under its name when all of it is on the disk."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder.absolute()))
        self._folder = folder.absolute()

    def check(self) -> None:
        there = next(folder for folder in (self._folder, *self._folder.parents) if folder.exists())
        if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
            remedy = f"Make it writable, as with `chown {os.getuid()} {there}`"
            raise StoreUnreachable(f"{there}: the user {os.getuid()} can't write into it. {remedy}")

    def _create(self, name: str, data: bytes) -> None:
        path = self._folder / name
        with self._translated(name):
            self._make(path.parent)
            _remove_abandoned(path.parent)
            part = path.with_name(f".{path.name}.{secrets.token_hex(8)}{_PART}")
            try:
                with part.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.link(part, path)  # fails where the name is taken, unlike a rename
            finally:
                with suppress(FileNotFoundError):
                    part.unlink()
            _sync(path.parent)

    def _make(self, folder: Path) -> None:
        try:
            _make_folders(folder)
        except OSError as error:
            problem = f"the folder {folder} can't be made ({error.strerror})"
            raise StoreUnreachable(f"{problem}. Make {self.address}, writable for this user") from None

    def get(self, name: str) -> bytes:
        with self._translated(name):
            path = self._folder / name
            self.checked_size(name, path.stat().st_size)
            return path.read_bytes()

    def list(self, prefix: str = "") -> Sequence[StoredBundle]:
        with self._translated(prefix):
            return sorted(self._files(self._folder / prefix), key=lambda each: each.name)

    def _files(self, folder: Path) -> Iterator[StoredBundle]:
        for path in folder.rglob("*"):
            with suppress(FileNotFoundError):  # deleted meanwhile
                if path.is_file() and path.suffix != _PART:
                    stat = path.stat()
                    modified = datetime.fromtimestamp(stat.st_mtime, UTC)
                    yield StoredBundle(path.relative_to(self._folder).as_posix(), stat.st_size, modified)

    def delete(self, name: str) -> None:
        path = self._folder / name
        with self._translated(name), suppress(FileNotFoundError):
            path.unlink()
            _sync(path.parent)

    @contextmanager
    def _translated(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileExistsError:
            raise BundleExists(self.address_of(name)) from None
        except FileNotFoundError:
            raise UnknownBundle(self.address_of(name)) from None
        except OSError as error:
            raise StoreUnreachable(f"{self.address_of(name)}: {error.strerror or error}") from None


def _make_folders(folder: Path) -> None:
    """Make a folder and those above it, so that they survive a crash of the machine."""
    if not folder.is_dir():
        _make_folders(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_abandoned(folder: Path) -> None:
    """Remove what writers left that were killed long ago."""
    for part in folder.glob(f".*{_PART}"):
        with suppress(FileNotFoundError):
            if time.time() - part.stat().st_mtime > _ABANDONED_S:
                part.unlink()
