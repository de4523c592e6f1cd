"""RabbitMQ's management API for the handlers: the provider's inputs as its address, its errors as the engine's."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import urllib3
from urllib3.exceptions import SSLError

from kryonix.certificates.trust import context
from kryonix.engines.local.errors import ApplyFailed, InvalidInputs, ServiceUnavailable
from kryonix.engines.local.handlers.base import NOT_YET, UNKNOWN
from kryonix.engines.local.handlers.fields import REQUIRED, Field, Kind, accepted
from kryonix.rabbitmq.client import BrokerFailed, BrokerUnavailable, Client

CONNECTIONS: Final = 32
TIMEOUT: Final = urllib3.Timeout(connect=10, read=120)
_CONFIG: Final[Mapping[str, Field]] = {
    **dict.fromkeys(("endpoint", "username", "password"), REQUIRED),
    "insecure": Field(kind=Kind.FLAG, default=False),
    "cacertFile": Field(),
}


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text"
        remedy = "Name a file with the broker's CA (PEM)"
        raise InvalidInputs(f"provider rabbitmq: `cacertFile` {file} can't be read: {reason}. {remedy}") from None


class Management:
    """The management API of one broker, for many threads. It connects on first use."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Read the provider's inputs, which may be unknown in a preview. Raises InvalidInputs."""
        values = accepted("provider rabbitmq", _CONFIG, {name: value for name, value in config.items() if value})
        self._client: Client | None = None
        if UNKNOWN in values.values():
            return
        self.endpoint, self.username = values["endpoint"], values["username"]
        pool: dict[str, Any] = {"maxsize": CONNECTIONS}
        if values["insecure"] and self.endpoint.startswith("https:"):
            pool["ssl_context"] = unverified = context("")
            unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
        trust = _read(values["cacertFile"]) if values.get("cacertFile") else ""
        try:
            self._client = Client(
                self.endpoint, self.username, values["password"], TIMEOUT, ca_certificate=trust, **pool
            )
        except BrokerUnavailable as error:
            raise InvalidInputs(f"provider rabbitmq: `endpoint` {error.problem}") from None

    def get(self, *path: str) -> Any:
        """Return an object, None if it does not exist."""
        with self._connected("read " + " ".join(f"`{segment}`" for segment in path)) as client:
            return client.find(*path)

    def call(self, method: str, path: tuple[str, ...], doing: str, **options: Any) -> urllib3.BaseHTTPResponse:
        """Send a request; see `Client.call`. `doing` names the change in an error, such as "declare queue `q`"."""
        with self._connected(doing) as client:
            return client.call(method, *path, **options)

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()

    @contextmanager
    def _connected(self, doing: str) -> Iterator[Client]:
        if self._client is None:
            raise ServiceUnavailable(NOT_YET.format("RabbitMQ's management API"))
        remedy = "Start the broker's management plugin, or correct the provider's `endpoint`"
        try:
            yield self._client
            return
        except BrokerFailed as error:
            problem = error.problem
            if error.status == 401 and error.reason.lower() in ("login failed", "not_authorized"):
                problem = f"refuses the password of user {self.username!r}"
                remedy = "Correct the provider's `username` and `password`, and give the user the tag administrator"
            elif error.status >= 400 and error.status not in (502, 503, 504):
                refused = f"refused to {doing}: {error.reason} (HTTP {error.status})"
                raise ApplyFailed(f"RabbitMQ at {self.endpoint} {refused}") from None
        except BrokerUnavailable as error:
            problem = error.problem
            if isinstance(error.__cause__, SSLError):
                remedy = "Set the provider's `cacertFile`, or use the right scheme (http, https)"
        raise ServiceUnavailable(f"RabbitMQ's management API at {self.endpoint} {problem}. {remedy}.")
