"""A server's TLS with certificates that are renewed while it runs."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cryptography import x509

from kryonix.certificates.leaf import names_of
from kryonix.certificates.placement import PUBLIC

log = logging.getLogger("kryonix.certificates")

_LOOK_S: Final = 0.2


class _Served:
    """A file with key and chain, which is replaced by a rename, and what was read of it last."""

    names: tuple[str, ...] = ()
    context: ssl.SSLContext

    def __init__(self, file: Path) -> None:
        self._file = file
        self._version: tuple[int, int] | None = None

    def read(self) -> None:
        """Read the file if it has changed. Raises OSError (ssl.SSLError is one); the former contents stay then."""
        state = self._file.stat()
        version = state.st_ino, state.st_mtime_ns
        if version != self._version:
            self.context = _context(self._file)
            self.names = names_of(x509.load_pem_x509_certificate(self._file.read_bytes()))
            self._version = version

    def read_again(self) -> None:
        try:
            self.read()
        except OSError as error:
            log.warning("%s can't be read, so the former certificate is served: %s", self._file, error)


def serving_context(file: Path) -> ssl.SSLContext:
    """Return a server's context, TLS 1.2 and 1.3, that looks for a renewed certificate at each handshake.

    `file` holds key and chain, and is replaced by a rename. One that can't be read leaves the former certificate in
    use. Clients that ask for a name in the certificate `public.pem` beside it, if there is one, get that. Raises
    OSError (ssl.SSLError is one) if there is no file.
    """
    own, public = _Served(file), _Served(file.with_name(PUBLIC))
    own.read()

    def choose(connection: Any, name: str | None, _context_of_all: ssl.SSLContext) -> None:
        own.read_again()
        if file.with_name(PUBLIC).exists():
            public.read_again()
        connection.context = (public if (name or "").lower() in public.names else own).context

    # OpenSSL calls it for every handshake, with a host name or without.
    entry = _context(file)
    entry.sni_callback = choose
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
