"""A bundle as bytes: age(zstd(tar(manifest.json, members))), packed and unpacked in memory.

age shows that a bundle was not changed, but not who wrote it: anyone can encrypt to a recipient. So everything that is
unpacked is bounded and checked as if it were hostile.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import zstandard

from kryonix.backup.encryption import Identities, Recipients
from kryonix.backup.errors import InvalidBundle
from kryonix.backup.manifest import MANIFEST, Kind, Manifest, member_of

MEBIBYTE: Final = 1024 * 1024
UNPACKED: Final[Mapping[Kind, int]] = {"tenant": 64 * MEBIBYTE, "platform": 1024 * MEBIBYTE}
"""Bytes that a bundle may have unpacked."""
_MANIFEST_BYTES: Final = MEBIBYTE
_WINDOW: Final = 8 * MEBIBYTE
_BLOCK: Final = tarfile.BLOCKSIZE
_LEVEL: Final = 9


@dataclass(frozen=True, slots=True)
class Bundle:
    """A manifest and its members by name. `repr` leaves out the members: they hold password hashes."""

    manifest: Manifest
    members: Mapping[str, bytes]

    def __repr__(self) -> str:
        return f"Bundle({self.manifest.kind} {self.manifest.subject!r}, {sorted(self.members)})"


def pack(bundle: Bundle, recipients: Recipients) -> bytes:
    """Return a bundle encrypted for its recipients. Raises InvalidBundle for one that `unpack` would refuse."""
    where = f"the backup of the {bundle.manifest.kind} {bundle.manifest.subject!r}"
    _check_members(bundle, where)
    size = sum(len(content) for content in bundle.members.values())
    if size > UNPACKED[bundle.manifest.kind] - 2 * _MANIFEST_BYTES:
        raise InvalidBundle(where, f"has {size} bytes, and a bundle may have {UNPACKED[bundle.manifest.kind]}")
    return recipients.encrypt(zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(_tar(bundle)))


def unpack(data: bytes, identities: Identities, where: str) -> Bundle:
    """Return the bundle in encrypted bytes. Raises InvalidBundle or WrongKey, which name `where`.

    A bundle made by hand opens too: `tar --format=ustar`, the manifest first.
    """
    stream = _Stream(identities.decrypt(data, where), where)
    entries = _entries(stream)
    first, text = next(entries, ("", b""))
    if first != MANIFEST:
        raise InvalidBundle(where, f"does not begin with {MANIFEST}")
    manifest = Manifest.read(text, where)
    stream.allow(UNPACKED[manifest.kind])
    members: dict[str, bytes] = {}
    for name, content in entries:
        if name in members or name not in manifest.members:
            raise InvalidBundle(where, f"holds {name[:80]!r}, which its manifest does not list once")
        members[name] = content
    bundle = Bundle(manifest, members)
    _check_members(bundle, where)
    return bundle


def _check_members(bundle: Bundle, where: str) -> None:
    for name, expected in bundle.manifest.members.items():
        if name not in bundle.members:
            raise InvalidBundle(where, f"{name} is missing")
        if member_of(bundle.members[name]) != expected:
            raise InvalidBundle(where, f"{name} is not what its manifest says: another size or SHA-256")
    if extra := bundle.members.keys() - bundle.manifest.members.keys():
        raise InvalidBundle(where, f"{min(extra)} is not in its manifest")


def _tar(bundle: Bundle) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in [(MANIFEST, bundle.manifest.to_json()), *sorted(bundle.members.items())]:
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(content), 0o600, int(bundle.manifest.created_at.timestamp())
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


class _Stream:
    """Decompressed bytes, read in order, up to a limit: what is compressed may be a bomb."""

    def __init__(self, compressed: bytes, where: str) -> None:
        decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
        self._reader = decompressor.stream_reader(compressed, read_across_frames=True)
        self._left = _MANIFEST_BYTES
        self.where = where

    def allow(self, limit: int) -> None:
        self._left = limit

    def read(self, size: int) -> bytes:
        """Return `size` bytes, or fewer at the end."""
        self._left -= size
        if self._left < 0:
            raise InvalidBundle(self.where, "is larger than a bundle may be")
        try:
            return self._reader.read(size)
        except zstandard.ZstdError:
            raise InvalidBundle(self.where, "is not compressed by zstd, or damaged") from None


def _entries(stream: _Stream) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the content of each file of a tar.

    `tarfile` would follow links, sparse files and extended headers, which may claim any size. Here only the plain
    header of a regular file is read, and what comes after the files is zeros.
    """
    while any(header := stream.read(_BLOCK)):
        info = _header(header, stream.where)
        content = stream.read(info.size)
        if len(content) < info.size:
            raise InvalidBundle(stream.where, "is truncated")
        stream.read(-info.size % _BLOCK)
        yield info.name, content
    if len(header) < _BLOCK:
        raise InvalidBundle(stream.where, "is truncated")
    while rest := stream.read(_BLOCK):
        if any(rest):
            raise InvalidBundle(stream.where, "holds data after its end")


def _header(block: bytes, where: str) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.TarError, ValueError):
        raise InvalidBundle(where, "is not a tar archive, or truncated") from None
    if info.type != tarfile.REGTYPE or info.size < 0:
        raise InvalidBundle(where, f"holds {info.name[:80]!r}, which is not a regular file")
    return info
