"""RabbitMQ's management API: requests by path segments, pooled connections, and its errors in our terms."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any, Final
from urllib.parse import quote, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, LocationValueError, MaxRetryError, SSLError

from kryonix.engines.local.errors import ApplyFailed, InvalidInputs, ServiceUnavailable
from kryonix.engines.local.handlers.base import UNKNOWN
from kryonix.engines.local.handlers.fields import Field, Kind, checked

__all__ = ["Management", "api_path", "management"]

CONNECTIONS: Final = 32
CONNECT_SECONDS: Final = 10.0
READ_SECONDS: Final = 120.0

# Every request this client makes is idempotent, a binding's POST too: one more try after a kept-alive connection
# turned out to be stale repeats nothing. A refused connection is not retried: that is an answer.
RETRIES: Final = urllib3.Retry(
    total=2, connect=0, read=2, redirect=0, status=0, other=0, allowed_methods=None, raise_on_status=False
)

_CONFIG: Final[Mapping[str, Field]] = {
    "endpoint": Field(required=True),
    "username": Field(required=True),
    "password": Field(required=True),
    "insecure": Field(kind=Kind.FLAG, default=False),
    "cacertFile": Field(),
    "clientcertFile": Field(),
    "clientkeyFile": Field(),
    "proxy": Field(),
}
_ENVIRONMENT: Final = {
    "endpoint": "RABBITMQ_ENDPOINT",
    "username": "RABBITMQ_USERNAME",
    "password": "RABBITMQ_PASSWORD",
    "insecure": "RABBITMQ_INSECURE",
    "cacertFile": "RABBITMQ_CACERT",
    "clientcertFile": "RABBITMQ_CLIENTCERT",
    "clientkeyFile": "RABBITMQ_CLIENTKEY",
    "proxy": "RABBITMQ_PROXY",
}


def api_path(*segments: str) -> str:
    """The API's path to an object; every segment quoted, slashes in names included."""
    return "/api/" + "/".join(quote(segment, safe="") for segment in segments)


@dataclass(frozen=True, slots=True, repr=False)
class Management:
    """A connection pool to one broker's management API, safe to use from many threads."""

    endpoint: str
    username: str
    _prefix: str = ""
    _pool: urllib3.HTTPConnectionPool | None = None
    _headers: Mapping[str, str] = dataclass_field(default_factory=dict)

    def get(self, *path: str) -> Any:
        """What the API says of an object, or None where there is none."""
        response = self._request("GET", path)
        if response.status == 404:
            return None
        self._expect_success(response, f"read {_said(path)}")
        return self._json(response)

    def put(self, path: tuple[str, ...], body: Mapping[str, Any], doing: str) -> None:
        """Make an object be as `body` says. `doing` names the change in an error, such as "declare queue `q`"."""
        self._expect_success(self._request("PUT", path, body), doing)

    def post(self, path: tuple[str, ...], body: Mapping[str, Any], doing: str) -> str:
        """Post, and return the Location the API answers with."""
        response = self._request("POST", path, body)
        self._expect_success(response, doing)
        return str(response.headers.get("Location", ""))

    def delete(self, path: tuple[str, ...], doing: str) -> None:
        """Remove an object; one that is already gone is no error."""
        response = self._request("DELETE", path)
        if response.status != 404:
            self._expect_success(response, doing)

    def close(self) -> None:
        """Close the pool."""
        if self._pool is not None:
            self._pool.close()

    def _request(
        self, method: str, path: tuple[str, ...], body: Mapping[str, Any] | None = None
    ) -> urllib3.BaseHTTPResponse:
        url = self._prefix + api_path(*path)
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        if self._pool is None:
            raise ServiceUnavailable(
                "RabbitMQ's management API can't be reached yet: where it is, or its password, is known once the "
                "resources it comes from are made. Run `up` first."
            )
        try:
            return self._pool.urlopen(method, url, body=data, headers=self._headers, redirect=False)
        except HTTPError as error:
            raise ServiceUnavailable(self._unreachable(error)) from None

    def _unreachable(self, error: HTTPError) -> str:
        reason = error.reason if isinstance(error, MaxRetryError) and error.reason else error
        if isinstance(reason, SSLError):
            return (
                f"RabbitMQ's management API at {self.endpoint} can't be trusted: {_last(reason)}. Name the CA's file "
                "as the provider's `cacertFile`, or use the scheme (http, https) it really speaks."
            )
        return (
            f"RabbitMQ's management API at {self.endpoint} can't be reached: {_last(reason)}. "
            "Start the broker with its management plugin, or correct the provider's `endpoint`."
        )

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
                f"{self.endpoint} answers HTTP {status} ({reason}) where RabbitMQ's management API was expected. "
                "Wait until the broker is up, or correct the provider's `endpoint`."
            )
        raise ApplyFailed(f"RabbitMQ at {self.endpoint} would not {doing}: {reason} (HTTP {status})")

    def _json(self, response: urllib3.BaseHTTPResponse) -> Any:
        try:
            return json.loads(response.data)
        except ValueError:
            raise ServiceUnavailable(
                f"what answers at {self.endpoint} is not RabbitMQ's management API (it sends no JSON). "
                "Correct the provider's `endpoint`."
            ) from None


def management(config: Mapping[str, Any]) -> Management:
    """A client from the provider's inputs, which a preview may not know yet; connects when first used.

    Raises `InvalidInputs`.
    """
    given = {name: config.get(name) or os.environ.get(env) for name, env in _ENVIRONMENT.items()}
    values, problems = checked(_CONFIG, given)
    if problems:
        raise InvalidInputs("\n".join(f"provider rabbitmq: {problem}" for problem in problems))
    if UNKNOWN in values.values():
        return Management(endpoint="an address not known yet", username="")
    parts = urlsplit(values["endpoint"])
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise InvalidInputs(
            f"provider rabbitmq: `endpoint` is {parts.scheme}://{parts.hostname}…; it must be a URL such as "
            "http://127.0.0.1:15672, without credentials in it"
        )
    headers = urllib3.make_headers(basic_auth=f"{values['username']}:{values['password']}", keep_alive=True)
    headers["content-type"] = "application/json"
    return Management(
        endpoint=values["endpoint"],
        username=values["username"],
        _prefix=parts.path.rstrip("/"),
        _pool=_pool(values, f"{parts.scheme}://{parts.netloc}"),
        _headers=headers,
    )


def _pool(values: Mapping[str, Any], url: str) -> urllib3.HTTPConnectionPool:
    options: dict[str, Any] = {
        "maxsize": CONNECTIONS,
        "block": True,
        "retries": RETRIES,
        "timeout": urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
    }
    if url.startswith("https"):
        options["cert_reqs"] = "CERT_NONE" if values["insecure"] else "CERT_REQUIRED"
        options["ca_certs"] = values.get("cacertFile") or None
        options["cert_file"] = values.get("clientcertFile") or None
        options["key_file"] = values.get("clientkeyFile") or None
    try:
        if values.get("proxy"):
            pool: urllib3.HTTPConnectionPool = urllib3.ProxyManager(values["proxy"], **options).connection_from_url(url)
            return pool
        return urllib3.connection_from_url(url, **options)
    except (LocationValueError, ValueError) as error:
        raise InvalidInputs(f"provider rabbitmq: `endpoint` or `proxy` is no usable URL: {error}") from None


def _reason(response: urllib3.BaseHTTPResponse) -> str:
    try:
        said = json.loads(response.data)
    except ValueError:
        return response.reason or "no reason given"
    reason = said.get("reason") or said.get("error") if isinstance(said, dict) else said
    return str(reason).strip() or "no reason given"


def _said(path: tuple[str, ...]) -> str:
    return " ".join(f"`{segment}`" for segment in path)


def _last(error: BaseException) -> str:
    """The cause in a few words: urllib3 wraps it in its own class names and addresses."""
    text = str(error)
    return text.rsplit(": ", 1)[-1].strip("()'\" ") or type(error).__name__
