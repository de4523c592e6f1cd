"""A server's TLS with a certificate that is renewed while it runs."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

log = logging.getLogger("kryonix.certificates")

_LOOK_S: Final = 0.2


def serving_context(file: Path) -> ssl.SSLContext:
    """Return a server's context, TLS 1.2 and 1.3, that looks for a renewed certificate at each handshake.

    `file` holds key and chain, and is replaced by a rename. One that can't be read leaves the former certificate in
    use. Raises OSError (ssl.SSLError is one) if there is none.
    """
    loaded, version = _context(file), _version(file)

    def renew(connection: Any, _name: str | None, _context_of_all: ssl.SSLContext) -> None:
        nonlocal loaded, version
        try:
            if (found := _version(file)) != version:
                loaded, version = _context(file), found
        except OSError as error:
            log.warning("%s can't be read, so the former certificate is served: %s", file, error)
        connection.context = loaded

    # OpenSSL calls it for every handshake, with a host name or without.
    entry = _context(file)
    entry.sni_callback = renew
    return entry


def wait_for(file: Path, say: Callable[[str], None]) -> None:
    """Wait until a certificate is there. Say so once if it is not."""
    if not _there(file):
        say(f"waiting for {file}, which the keeper of certificates writes")
    while not _there(file):
        time.sleep(_LOOK_S)


def _there(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0


def _context(file: Path) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.load_cert_chain(file)
    return made


def _version(file: Path) -> tuple[int, int]:
    state = file.stat()
    return state.st_ino, state.st_mtime_ns
