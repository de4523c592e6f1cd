"""A service's folder: `server.pem` with key and certificates, `ca.pem` and `clients.pem` with the trusted CAs.

`public.pem` is the certificate for public names, where the service has any.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from kryonix.certificates.leaf import CertificateRejected, Leaf

SERVER: Final = "server.pem"
PUBLIC: Final = "public.pem"
TRUST: Final = "ca.pem"
"""The CAs of services."""
CLIENTS: Final = "clients.pem"
"""The CAs of clients, where there are any."""
_LOCK: Final = ".lock"
_MODE: Final = 0o600


def place(folder: Path, leaf: Leaf, trust: str, clients: str = "", public: Leaf | None = None) -> bool:
    """Put certificates and the trusted CAs into a service's folder; return False if all were there.

    Check the certificates before. Each file is renamed into place, so a reader sees the old one or the new one, with
    the folder's owner and mode 0600. The service's own comes last: whoever reads in between trusts old and new, and a
    service that waits for its certificate finds all files. Raises OSError.
    """
    before = ((TRUST, trust), (CLIENTS, clients), (PUBLIC, public.pem if public else ""))
    others = [put_file(folder, name, text) for name, text in before if text]
    return put_file(folder, SERVER, leaf.pem) or any(others)


def placed(folder: Path, name: str = SERVER) -> Leaf | None:
    """Return the certificate in a folder; None if there is none that can be read."""
    try:
        return Leaf.read((folder / name).read_text())
    except (FileNotFoundError, UnicodeDecodeError, CertificateRejected):
        return None


def put_file(folder: Path, name: str, text: str) -> bool:
    """Put a file into a folder by a rename, for its owner alone; return False if it was there. Raises OSError."""
    owner, file, new = folder.stat(), folder / name, folder / f".{name}.new"
    content = text.encode()
    if _is_there(file, content, owner):
        return False
    new.unlink(missing_ok=True)  # left by a run that was ended
    # O_EXCL and O_NOFOLLOW: the service owns the folder, and must not make a keeper that is root write elsewhere.
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _MODE)
    with os.fdopen(descriptor, "wb") as writing:
        writing.write(content)
        writing.flush()
        os.fchmod(descriptor, _MODE)  # whatever the umask
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
        os.fsync(descriptor)
    new.replace(file)
    _sync(folder)
    _date(file)
    return True


def date(folder: Path) -> None:
    """Have a service read its files again. Raises OSError.

    Erlang reads a file again if it is not older than its last look, and a rename keeps a file's date. So the date comes
    after the rename, however long that took.
    """
    for name in (TRUST, CLIENTS, PUBLIC, SERVER):
        with suppress(FileNotFoundError):
            _date(folder / name)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from changing what belongs to a folder. Raises OSError."""
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, _MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _date(file: Path) -> None:
    os.utime(file, follow_symlinks=False)  # the service owns the folder, and may have put a link there


def _is_there(file: Path, content: bytes, owner: os.stat_result) -> bool:
    try:
        found = file.lstat()
        kept = (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (owner.st_uid, owner.st_gid, _MODE)
        return kept and not file.is_symlink() and file.read_bytes() == content
    except FileNotFoundError:
        return False


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
