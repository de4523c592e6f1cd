"""RabbitMQ's management API: requests by path segments, pooled connections, and its errors as the engine's."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, LocationValueError, MaxRetryError, SSLError

from kryonix.engines.local.errors import ApplyFailed, InvalidInputs, ServiceUnavailable
from kryonix.engines.local.handlers.base import UNKNOWN
from kryonix.engines.local.handlers.fields import Field, Kind, checked

CONNECTIONS: Final = 32
TIMEOUT: Final = urllib3.Timeout(connect=10, read=120)

# Every request is idempotent, a binding's POST too, and may be repeated after a kept-alive connection turned out to be
# stale. A refused connection is an answer, and not repeated.
RETRIES: Final = urllib3.Retry(
    total=2, connect=0, read=2, redirect=0, status=0, other=0, allowed_methods=None, raise_on_status=False
)

_CONFIG: Final[Mapping[str, Field]] = {
    "endpoint": Field(required=True),
    "username": Field(required=True),
    "password": Field(required=True),
    "insecure": Field(kind=Kind.FLAG, default=False),
    "cacertFile": Field(),
}
_ENVIRONMENT: Final = {
    "endpoint": "RABBITMQ_ENDPOINT",
    "username": "RABBITMQ_USERNAME",
    "password": "RABBITMQ_PASSWORD",
    "insecure": "RABBITMQ_INSECURE",
    "cacertFile": "RABBITMQ_CACERT",
}


def api_path(*segments: str) -> str:
    """Return the path of an object, with every segment quoted, including slashes in names."""
    return "/api/" + "/".join(quote(segment, safe="") for segment in segments)


class Management:
    """A connection pool to one broker's management API, for many threads. It connects on first use."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Read the provider's inputs, which may be unknown in a preview, and RABBITMQ_*. Raise `InvalidInputs`."""
        given = {name: os.environ.get(variable) for name, variable in _ENVIRONMENT.items()}
        values, problems = checked(_CONFIG, given | {name: value for name, value in config.items() if value})
        if problems:
            raise InvalidInputs("\n".join(f"provider rabbitmq: {problem}" for problem in problems))
        self._pool: urllib3.HTTPConnectionPool | None = None
        if UNKNOWN in values.values():
            return
        self.endpoint, self.username = values["endpoint"], values["username"]
        parts = urlsplit(self.endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise InvalidInputs(
                f"provider rabbitmq: `endpoint` is {parts.scheme}://{parts.hostname}…; it must be a URL such as "
                "http://127.0.0.1:15672, without credentials"
            )
        self._prefix = parts.path.rstrip("/")
        self._headers = urllib3.make_headers(basic_auth=f"{self.username}:{values['password']}", keep_alive=True)
        self._headers["content-type"] = "application/json"
        options: dict[str, Any] = {"maxsize": CONNECTIONS, "block": True, "retries": RETRIES, "timeout": TIMEOUT}
        if parts.scheme == "https":
            options["cert_reqs"] = "CERT_NONE" if values["insecure"] else "CERT_REQUIRED"
            options["ca_certs"] = values.get("cacertFile") or None
        try:
            self._pool = urllib3.connection_from_url(f"{parts.scheme}://{parts.netloc}", **options)
        except (LocationValueError, ValueError) as error:
            raise InvalidInputs(f"provider rabbitmq: `endpoint` is not a valid URL: {error}") from None

    def get(self, *path: str) -> Any:
        """Return an object, None if it does not exist."""
        response = self._request("GET", path)
        if response.status == 404:
            return None
        self._expect_success(response, "read " + " ".join(f"`{segment}`" for segment in path))
        try:
            return json.loads(response.data)
        except ValueError:
            raise ServiceUnavailable(
                f"{self.endpoint} is not RabbitMQ's management API: it sends no JSON. "
                "Correct the provider's `endpoint`."
            ) from None

    def put(self, path: tuple[str, ...], body: Mapping[str, Any], doing: str) -> None:
        """Declare an object. `doing` names the change in an error, such as "declare queue `q`"."""
        self._expect_success(self._request("PUT", path, body), doing)

    def post(self, path: tuple[str, ...], body: Mapping[str, Any], doing: str) -> str:
        """Post, and return the Location of the response."""
        response = self._request("POST", path, body)
        self._expect_success(response, doing)
        return str(response.headers.get("Location", ""))

    def delete(self, path: tuple[str, ...], doing: str) -> None:
        """Delete an object. Succeed if it is already gone."""
        response = self._request("DELETE", path)
        if response.status != 404:
            self._expect_success(response, doing)

    def close(self) -> None:
        """Close the connections."""
        if self._pool is not None:
            self._pool.close()

    def _request(
        self, method: str, path: tuple[str, ...], body: Mapping[str, Any] | None = None
    ) -> urllib3.BaseHTTPResponse:
        if self._pool is None:
            raise ServiceUnavailable(
                "RabbitMQ's management API can't be reached yet: its address or password comes from resources that "
                "don't exist yet. Run `up` first."
            )
        url = self._prefix + api_path(*path)
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        try:
            return self._pool.urlopen(method, url, body=data, headers=self._headers, redirect=False)
        except HTTPError as error:
            reason = error.reason if isinstance(error, MaxRetryError) and error.reason else error
            # urllib3 wraps the cause in its own class names and addresses.
            cause = str(reason).rsplit(": ", 1)[-1].strip("()'\" ") or type(reason).__name__
            what, remedy = "reached", "Start the broker's management plugin, or correct the provider's `endpoint`"
            if isinstance(reason, SSLError):
                what, remedy = "trusted", "Set the provider's `cacertFile`, or use the right scheme (http, https)"
            message = f"RabbitMQ's management API at {self.endpoint} can't be {what}: {cause}. {remedy}."
            raise ServiceUnavailable(message) from None

    def _expect_success(self, response: urllib3.BaseHTTPResponse, doing: str) -> None:
        status = response.status
        if status < 300:
            return
        reason = _reason(response)
        if status == 401 and reason.lower() in ("login failed", "not_authorized"):
            raise ServiceUnavailable(
                f"RabbitMQ's management API at {self.endpoint} refuses the password of user {self.username!r}. "
                "Correct the provider's `username` and `password`, and check that the user has the tag administrator."
            )
        if status in (502, 503, 504) or status < 400:
            raise ServiceUnavailable(
                f"{self.endpoint} answers HTTP {status} ({reason}), which is not RabbitMQ's management API. "
                "Wait until the broker is up, or correct the provider's `endpoint`."
            )
        raise ApplyFailed(f"RabbitMQ at {self.endpoint} refused to {doing}: {reason} (HTTP {status})")


def _reason(response: urllib3.BaseHTTPResponse) -> str:
    try:
        answer = json.loads(response.data)
    except ValueError:
        return response.reason or "no reason given"
    reason = answer.get("reason") or answer.get("error") if isinstance(answer, dict) else answer
    return str(reason).strip() or "no reason given"
