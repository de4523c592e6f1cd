"""RabbitMQ's management API: requests by path segments over pooled connections."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Self
from urllib.parse import quote, urlsplit

import urllib3
from pydantic_core import from_json
from urllib3.exceptions import HTTPError, ProtocolError, SSLError

from kryonix.errors import ServiceUnreachable

_REPEATS: Final = 2
_LONGEST: Final = 16 * 2**20
"""Maximum bytes read of a list: a tenant may have created any number of objects."""


class BrokerUnavailable(ServiceUnreachable):
    """The broker does not answer, or refuses the request. `problem` is the message without address and remedy."""

    def __init__(self, message: str, problem: str = "") -> None:
        super().__init__(message)
        self.problem = problem


class BrokerFailed(BrokerUnavailable):
    """The broker answers with an error."""

    def __init__(self, message: str, problem: str, status: int, reason: str) -> None:
        super().__init__(message, problem)
        self.status, self.reason = status, reason


def api_path(*segments: str) -> str:
    """Return the path of an object, with every segment quoted, including slashes in names."""
    return "/api/" + "/".join(quote(segment, safe="") for segment in segments)


class Client:
    """The management API of one broker, for many threads. It connects on first use.

    Every request may raise BrokerUnavailable or BrokerFailed; their texts contain no password.
    """

    def __init__(self, url: str, username: str, password: str, timeout: urllib3.Timeout, **pool: Any) -> None:
        """`pool` are options of urllib3's pool, such as the number of connections."""
        self.url, self.username = url.rstrip("/"), username
        login = b64encode(f"{username}:{password}".encode()).decode()
        self._headers = {"authorization": f"Basic {login}"}
        try:
            parts = urlsplit(self.url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
                raise ValueError("another kind of address")
            self._prefix, address = parts.path, f"{parts.scheme}://{parts.netloc}"
            self._pool = urllib3.connection_from_url(address, timeout=timeout, retries=False, block=True, **pool)
        except ValueError:
            problem = "is not a URL such as http://127.0.0.1:15672, without credentials"
            raise BrokerUnavailable(f"the broker's address {url.rpartition('@')[2]!r} {problem}", problem) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def get(self, *path: str, **params: str) -> Any:
        """Return what is at a path."""
        return self._parsed(self.call("GET", *path, fields=params).data, path)

    def find(self, *path: str, **params: str) -> Any:
        """Return what is at a path, or None."""
        response = self.call("GET", *path, missing_ok=True, fields=params)
        return None if response.status == 404 else self._parsed(response.data, path)

    def listed(self, *path: str, **params: str) -> tuple[list[dict[str, Any]], bool]:
        """Return a list's entries, and True if complete: reading stops after 16 MiB. Empty if missing."""
        response = self.call("GET", *path, missing_ok=True, fields=params, preload_content=False)
        with self._explained():
            text = response.read(_LONGEST)
        cut = len(text) == _LONGEST
        if cut:  # the rest is not read, so nobody else can use the connection
            response.close()
        response.release_conn()
        return ([], True) if response.status == 404 else (self._parsed(text, path, cut=cut), not cut)

    def call(
        self, method: str, *path: str, missing_ok: bool = False, reason: str = "", unlike: str = "", **options: Any
    ) -> urllib3.BaseHTTPResponse:
        """Send a request, with `json` or `fields`. `missing_ok` accepts status 404; the broker logs `reason`.

        `unlike` is an ETag: an object that has it is answered by 304 and no content.
        """
        more = {"X-Reason": reason, "If-None-Match": unlike}
        headers = self._headers | {name: value for name, value in more.items() if value}
        with self._explained():
            response = self._send(method, self._prefix + api_path(*path), headers=headers, redirect=False, **options)
            if response.status < 300 or (missing_ok and response.status == 404) or (unlike and response.status == 304):
                return response
            text = response.data
        raise self._failed(f"answered {response.status} to {method}", path, response.status, _reason(response, text))

    def _send(self, *args: Any, **options: Any) -> urllib3.BaseHTTPResponse:
        """Repeat a request whose kept-alive connection turned out to be stale. Every request is idempotent."""
        for _ in range(_REPEATS):
            try:
                return self._pool.request(*args, **options)
            except ProtocolError:
                continue
        return self._pool.request(*args, **options)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except HTTPError as error:
            # urllib3 puts its own class names and addresses before the reason.
            cause = str(error.args[-1] if error.args else "").rpartition("): ")[2] or type(error).__name__
            what = "can't be trusted" if isinstance(error, SSLError) else "does not answer"
            problem = f"{what} ({cause})"
            raise BrokerUnavailable(f"the broker at {self.url} {problem}. Start it and run again", problem) from error

    def _parsed(self, text: bytes, path: tuple[str, ...], *, cut: bool = False) -> Any:
        """Return what a response holds; of a list cut short, all but the last entry, which may be incomplete."""
        try:
            return from_json(text.decode(errors="ignore"), allow_partial=True)[:-1] if cut else json.loads(text)
        except ValueError:
            raise self._failed("sends no JSON to GET", path, 200, "it is another service") from None

    def _failed(self, what: str, path: tuple[str, ...], status: int, reason: str) -> BrokerFailed:
        problem = f"{what} {api_path(*path)}: {reason}"
        return BrokerFailed(
            f"the broker at {self.url} {problem}. Run again once it is healthy", problem, status, reason
        )


def _reason(response: urllib3.BaseHTTPResponse, text: bytes) -> str:
    try:
        answer = json.loads(text)
    except ValueError:
        return response.reason or "no reason given"
    reason = answer.get("reason") or answer.get("error") if isinstance(answer, dict) else answer
    return str(reason).strip()[:200] or "no reason given"
