"""Certificates of a public CA by ACME (RFC 8555), with the challenge http-01.

http-01 needs port 80 alone, which no service of a platform uses. tls-alpn-01 would need 443, where a proxy listens
already if there is one, and which would have to pass the challenges on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any, Final

import requests
from acme import challenges, crypto_util, errors, messages
from acme.client import ClientNetwork, ClientV2
from acme.standalone import HTTP01DualNetworkedServers, HTTP01RequestHandler
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from josepy.jwa import ES256
from josepy.jwk import JWKEC

from kryonix.certificates.leaf import Leaf
from kryonix.certificates.placement import SERVER, put_file
from kryonix.certificates.places import Acme
from kryonix.certificates.trust import why
from kryonix.errors import ServiceUnreachable

_ACCOUNT: Final = "account.pem"
_ATTEMPT: Final = "attempt"
_TRUST: Final = "directory.pem"
"""Who may have issued the certificate of the directory itself."""
_BETWEEN_S: Final = 900
"""Time between attempts: a public CA takes five failures of a name an hour."""
_REQUEST_S: Final = 15
_ORDER: Final = timedelta(seconds=60)
_TOTAL_S: Final = 90
"""The keeper's other work waits for so long, and its health check knows of no longer wait."""
_ORDERS: Final = 3
_SAID: Final = 500
"""Characters of a reason, which the CA may have written, in the log and in the keeper's status."""


class AcmeFailed(ServiceUnreachable):
    """The CA does not answer, refuses the order, or could not reach this machine."""


def obtain(acme: Acme, *, force: bool = False) -> Leaf:
    """Have a new certificate issued, keep it in the CA's folder beside the account's key, and return it.

    Raises AcmeFailed; also within 15 minutes of the last attempt, unless forced.
    """
    attempt = acme.kept / _ATTEMPT
    if not force and attempt.exists() and time.time() < attempt.stat().st_mtime + _BETWEEN_S:
        raise _failed(attempt)
    attempt.write_text(f"{acme.directory} issued nothing: the keeper was ended meanwhile")
    try:
        leaf = _in_time(acme)
    except Exception as error:  # the library raises KeyError, TypeError and others where an answer is a wrong one
        said = "".join(each if each.isprintable() else " " for each in _explained(error, acme))[:_SAID]
        attempt.write_text(f"{acme.directory} issued nothing: {said}")
        raise _failed(attempt) from error
    put_file(acme.kept, SERVER, leaf.pem)
    attempt.unlink()
    return leaf


def _failed(attempt: Path) -> AcmeFailed:
    following = datetime.fromtimestamp(attempt.stat().st_mtime + _BETWEEN_S, UTC)
    return AcmeFailed(f"{attempt.read_text()}. The next attempt is at {following:%H:%M} UTC")


def _in_time(acme: Acme) -> Leaf:
    """Order in a thread that may go on alone: a limit per request is none for a CA that sends a byte now and then."""
    found = Future[Leaf]()

    def order() -> None:
        try:
            found.set_result(_issued(acme))
        except Exception as error:  # noqa: BLE001  # raised again by `result`
            found.set_exception(error)

    Thread(target=order, name="acme", daemon=True).start()
    return found.result(_TOTAL_S)


def _issued(acme: Acme) -> Leaf:
    """Order again if the CA takes no nonce: the library repeats a request once, and a CA may refuse twice."""
    for _ in range(_ORDERS - 1):
        try:
            return _ordered(acme)
        except messages.Error as error:
            if error.code != "badNonce":
                raise
    return _ordered(acme)


def _ordered(acme: Acme) -> Leaf:
    client = _client(acme)
    key = _pem(ec.generate_private_key(ec.SECP256R1()))
    order = client.new_order(crypto_util.make_csr(key, list(acme.names)))
    offered = [_http01(each) for each in order.authorizations if each.body.status != messages.STATUS_VALID]
    answers = [(each, *each.response_and_validation(client.net.key)) for each in offered]
    with _answering(acme.port, answers):
        for challenge, response, _ in answers:
            client.answer_challenge(challenge, response)
        # The library compares with a time without a zone.
        issued = client.poll_and_finalize(order, datetime.now() + _ORDER)
    return Leaf.read(key.decode() + issued.fullchain_pem)


def _client(acme: Acme) -> ClientV2:
    """Return a client with an account, which is made on the first use of its key."""
    key = JWKEC(key=_account_key(acme.kept))
    put_file(acme.kept, _TRUST, Path(requests.utils.DEFAULT_CA_BUNDLE_PATH).read_text(encoding="utf-8") + acme.trusted)
    trust: Any = str(acme.kept / _TRUST)  # the library's annotation says bool, and Requests takes a file
    network = ClientNetwork(key, alg=ES256, verify_ssl=trust, user_agent="kryonix", timeout=_REQUEST_S)
    client = ClientV2(ClientV2.get_directory(acme.directory, network), network)
    wanted = messages.NewRegistration.from_data(email=acme.contact or None, terms_of_service_agreed=True)
    try:
        client.new_account(wanted)
    except errors.ConflictError as known:
        network.account = messages.RegistrationResource(uri=known.location, body=messages.Registration())
    return client


def _account_key(folder: Path) -> ec.EllipticCurvePrivateKey:
    file = folder / _ACCOUNT
    with suppress(FileNotFoundError):
        key = load_pem_private_key(file.read_bytes(), password=None)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key
    made = ec.generate_private_key(ec.SECP256R1())
    put_file(folder, _ACCOUNT, _pem(made).decode())
    return made


def _http01(authorization: messages.AuthorizationResource) -> messages.ChallengeBody:
    for each in authorization.body.challenges:
        if isinstance(each.chall, challenges.HTTP01):
            return each
    raise ValueError(f"the CA offers no http-01 for {authorization.body.identifier.value}")


@contextmanager
def _answering(port: int, answers: Sequence[tuple[Any, Any, str]]) -> Iterator[None]:
    """Answer the CA's requests while it validates."""
    resources = {
        HTTP01RequestHandler.HTTP01Resource(chall=challenge.chall, response=response, validation=validation)
        for challenge, response, validation in answers
    }
    servers = HTTP01DualNetworkedServers(("", port), resources)
    servers.serve_forever()
    try:
        yield
    finally:
        servers.shutdown_and_server_close()


def _explained(error: Exception, acme: Acme) -> str:
    if isinstance(error, errors.ValidationError):
        failed = [
            f"{each.body.identifier.value}: {challenge.error.detail}"
            for each in error.failed_authzrs
            for challenge in each.body.challenges
            if challenge.error is not None
        ]
        return f"{'; '.join(failed)}. Port 80 of these names has to lead to port {acme.port} of the keeper's machine"
    if isinstance(error, errors.TimeoutError):
        return f"it did not finish within {_ORDER.total_seconds():.0f} s"
    if isinstance(error, TimeoutError):
        return f"it did not finish within {_TOTAL_S} s"
    if isinstance(error, messages.Error):
        return str(error.detail or error)
    if isinstance(error, (KeyError, TypeError, AttributeError)):
        return "it does not answer as an ACME directory does. Compare the URL with the CA's documentation"
    return why(error, acme.directory) or str(error) or type(error).__name__


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
