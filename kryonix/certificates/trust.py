"""Which certificates a client trusts, and why it trusts one not. Only the standard library: the SDK imports it."""

from __future__ import annotations

import hashlib
import os
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from kryonix.certificates.handshake import SpeaksPlain, connect
from kryonix.errors import InvalidChoice

_FOLDER: Final = Path(".kryonix/trust")
_NO_TLS: Final = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE")
_PROBE_S: Final = 5.0

_WRONG_CA: Final = (
    "wrong CA: no CA that is trusted here issued the certificate of {host}. "
    "Trust the platform's CA (`kryonix certificates ca print`), or check the address"
)
_WRONG_HOST: Final = (
    "wrong host: the certificate of {host} is issued for other names. "
    "Use an address that the certificate names, or have one issued that names this address"
)
_PLAIN: Final = (
    'plain: {host} speaks no TLS on this port. Use the port that has TLS, or turn TLS on there (`kryonix:tls: "true"`)'
)
_CAUSES: Final = {
    2: _WRONG_CA,  # X509_V_ERR_*: unable to get issuer certificate
    7: _WRONG_CA,  # signature failure: a CA of the same name, with another key
    9: "not yet valid: the certificate of {host} starts later. Set the clocks of both machines",
    10: "expired: the certificate of {host} has expired. Renew it (`kryonix certificates renew`), and check the clocks",
    18: (
        "self-signed: the certificate of {host} is self-signed, and not trusted itself. "
        "Give the service a certificate of the platform's CA, or trust this one"
    ),
    19: _WRONG_CA,  # self-signed in the chain: the server sends its root, which is not trusted
    20: _WRONG_CA,  # unable to get local issuer certificate
    21: _WRONG_CA,  # unable to verify the first certificate
    62: _WRONG_HOST,
    64: _WRONG_HOST,  # of an IP address
}
_LIBPQ: Final = {
    "does not match host name": _WRONG_HOST,
    "could not get server's host name from server certificate": _WRONG_HOST,
    "server does not support SSL": _PLAIN,
}
_LIBPQ_UNVERIFIED: Final = "certificate verify failed"


def context(ca: str | None) -> ssl.SSLContext:
    """Return the context of a client that verifies chain and host name, with TLS 1.2 and 1.3.

    `ca` is the trust bundle (PEM); without one it trusts the system's CAs. Raises InvalidChoice if it is not PEM.
    The same certificates are accepted by every version of Python: 3.13's stricter rules are not libpq's either.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if not ca:
        made.load_default_certs()
        return made
    try:
        made.load_verify_locations(cadata=ca)
    except (ssl.SSLError, ValueError) as error:
        rule = "it must hold PEM blocks from -----BEGIN CERTIFICATE----- on"
        raise InvalidChoice(f"the trusted CA can't be read ({error}): {rule}") from error
    return made


def show(made: ssl.SSLContext, pem: str) -> None:
    """Have a context show a certificate, with its key (PEM). Raises OSError, of which ssl.SSLError is one."""
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # of mode 600; ssl reads a key from a file only
        file.write(pem)
        file.flush()
        made.load_cert_chain(file.name)


def trust_file(pem: str) -> str:
    """Return the path of a file with a trust bundle, for libraries that take no text, such as libpq.

    It is relative, and named by its content: an address in the state that has it is the same on every machine. Raises
    InvalidChoice if the folder can't be written.
    """
    content = pem.encode()
    file = _FOLDER / f"{hashlib.sha256(content).hexdigest()[:16]}.pem"
    try:
        if not file.is_file() or file.read_bytes() != content:
            _write(file, content)
    except OSError as error:
        problem = f"{str(file)!r} can't be written: {error.strerror}"
        raise InvalidChoice(f"{problem}. Run where you may write: it holds the platform's CA") from error
    return str(file)


def trusted_here() -> str:
    """Return the trust bundles that were written into this folder, PEM; empty if there is none."""
    return "".join(file.read_text(encoding="utf-8") for file in sorted(_FOLDER.glob("*.pem")))


def _write(file: Path, content: bytes) -> None:
    """Write a file that readers see whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(descriptor, "wb") as new:
            new.write(content)
        Path(name).chmod(0o644)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def why(error: BaseException, host: str) -> str | None:
    """Return why TLS with a host failed, and the remedy; None if that is not why an operation failed.

    It reads the errors of ssl, and those of aio-pika, httpx, urllib3 and psycopg, which carry one. libpq says no more
    than that a certificate can't be verified, so the handshake is then repeated, for 5 seconds at most.
    """
    for each in _carried(error):
        if isinstance(each, ssl.SSLCertVerificationError):
            other = f"the certificate of {{host}} is not valid ({each.verify_message})"
            return _CAUSES.get(each.verify_code, other).format(host=host)
        if isinstance(each, SpeaksPlain) or (isinstance(each, ssl.SSLError) and each.reason in _NO_TLS):
            return _PLAIN.format(host=host)
        if type(each).__module__.startswith("psycopg"):
            return _why_libpq(each, host)
    return None


def _carried(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those it carries: its causes, arguments and members, the nearest first."""
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        inner = [*each.args, getattr(each, "reason", None), each.__cause__, each.__context__]
        waiting += [other for other in inner if isinstance(other, BaseException)]
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions


def _why_libpq(error: BaseException, host: str) -> str | None:
    text = str(error)
    if _LIBPQ_UNVERIFIED in text:
        repeated = _repeated(getattr(error, "pgconn", None))
        return _WRONG_CA.format(host=host) if repeated is None else why(repeated, host)
    return next((cause.format(host=host) for part, cause in _LIBPQ.items() if part in text), None)


def _repeated(pgconn: Any) -> OSError | None:
    """Return the error of the same handshake by Python's ssl, which says more; None if it can't be repeated."""
    try:
        given = {option.keyword: option.val for option in pgconn.info}
        root = (given.get(b"sslrootcert") or b"").decode()
        trust = context(None if root in ("", "system") else Path(root).read_text())
        connect(pgconn.host.decode(), int(pgconn.port), trust, starttls="postgres", timeout=_PROBE_S).close()
    except ssl.SSLError as error:
        return error
    except Exception:  # noqa: BLE001 - the first error is the one to report
        return None
    return None
