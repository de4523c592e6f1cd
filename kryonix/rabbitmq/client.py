"""RabbitMQ's management API: requests by path segments over pooled connections, to a node that answers."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Self
from urllib.parse import quote, urlsplit

import urllib3
from pydantic_core import from_json
from urllib3.exceptions import HTTPError, ProtocolError, SSLError

from kryonix.certificates.trust import context, why
from kryonix.errors import ServiceUnreachable

_REPEATS: Final = 2
_PAUSE_S: Final = 0.25
PATIENCE_S: Final = 10.0
"""How long one client waits, in all, for a node that answers 500 without a word: it starts, and looks healthy."""
_UNTRUSTED: Final = "can't be trusted"
ALIVE: Final = urllib3.Timeout(connect=3, read=3)
"""Of the question whether one of several nodes answers: a frozen one accepts a connection, and says nothing."""
_silent: Final = set[str]()
"""Nodes that gave no answer when this process asked them last: each of its clients asks the others first."""
_TLS_ALERT: Final = "\\x15\\x03"
"""The beginning of a TLS alert, as Python shows a status line that is none."""
_NOT_NOW: Final = (500, 503)
"""What a node answers that starts, or to a change if it has lost the majority. Others may know better."""
_HEALTH: Final = "/api/health/"
"""Of checks, whose failure is a 503."""
_LONGEST: Final = 16 * 2**20
"""Maximum bytes read of a list: a tenant may have created any number of objects."""


class BrokerUnavailable(ServiceUnreachable):
    """The broker does not answer, or refuses the request. `problem` is the message without address and remedy."""

    def __init__(self, message: str, problem: str = "") -> None:
        super().__init__(message)
        self.problem = problem


class BrokerUntrusted(BrokerUnavailable):
    """TLS with every node fails. The message says why and what to do."""


class BrokerFailed(BrokerUnavailable):
    """The broker answers with an error."""

    def __init__(self, message: str, problem: str, status: int, reason: str) -> None:
        super().__init__(message, problem)
        self.status, self.reason = status, reason


def api_path(*segments: str) -> str:
    """Return the path of an object, with every segment quoted, including slashes in names."""
    return "/api/" + "/".join(quote(segment, safe="") for segment in segments)


def is_silent(url: str) -> bool:
    """Return True if a node gave no answer when this process asked it last."""
    return url.rstrip("/") in _silent


class _Node:
    """The management API of one node. It connects on first use."""

    def __init__(self, url: str, timeout: urllib3.Timeout, ca_certificate: str, pool: Mapping[str, Any]) -> None:
        self.url = url.rstrip("/")
        self.alive = False
        """True once it has answered, until it does not."""
        try:
            parts = urlsplit(self.url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
                raise ValueError("another kind of address")
            self._prefix, address = parts.path, f"{parts.scheme}://{parts.netloc}"
            trust = {"ssl_context": context(ca_certificate)} if parts.scheme == "https" else {}
            options = {"timeout": timeout, "retries": False, "block": True, **trust, **pool}
            self._pool = urllib3.connection_from_url(address, **options)
        except ValueError:
            problem = "is not a URL such as http://127.0.0.1:15672, without credentials"
            raise BrokerUnavailable(f"the broker's address {url.rpartition('@')[2]!r} {problem}", problem) from None

    def request(self, method: str, path: str, **options: Any) -> urllib3.BaseHTTPResponse:
        """Repeat a request whose kept-alive connection turned out to be stale. Every request is idempotent."""
        for _ in range(_REPEATS):
            try:
                return self._pool.request(method, self._prefix + path, redirect=False, **options)
            except ProtocolError:
                continue
        return self._pool.request(method, self._prefix + path, redirect=False, **options)

    def whoami(self, headers: Mapping[str, str]) -> int:
        """Return the status of the answer to the smallest question. Raises HTTPError soon if there is none."""
        return self.request("GET", api_path("whoami"), headers=headers, timeout=ALIVE).status

    def close(self) -> None:
        self._pool.close()

    def problem(self, error: HTTPError) -> str:
        """Return why it did not answer, without urllib3's class names and addresses before the reason."""
        if reason := why(error, urlsplit(self.url).netloc):
            return f"{_UNTRUSTED}: {reason}"
        if _TLS_ALERT in str(error):
            return "does not answer: this port has TLS, and http:// is without it. Write https:// in its address"
        cause = str(error.args[-1] if error.args else "").rpartition("): ")[2] or type(error).__name__
        return f"{_UNTRUSTED if isinstance(error, SSLError) else 'does not answer'} ({cause})"


class Client:
    """The management API of a broker, for many threads. It connects on first use.

    A broker of several nodes has several addresses: a request goes to the node that answered last, then to the others,
    and to nodes that gave no answer in the end.
    Every request may raise BrokerUnavailable or BrokerFailed; their texts contain no password.
    """

    def __init__(
        self,
        url: str,
        username: str,
        password: str,
        timeout: urllib3.Timeout,
        *,
        further_urls: Sequence[str] = (),
        ca_certificate: str = "",
        **pool: Any,
    ) -> None:
        """`ca_certificate` is the trusted CAs (PEM); empty: the system's. `pool` are options of urllib3's pools.

        Raises InvalidChoice if it is not PEM.
        """
        self.url, self.username = url.rstrip("/"), username
        login = b64encode(f"{username}:{password}".encode()).decode()
        self._headers = {"authorization": f"Basic {login}"}
        urls = dict.fromkeys((self.url, *(each.rstrip("/") for each in further_urls)))
        self._nodes = [_Node(each, timeout, ca_certificate, pool) for each in urls]
        self._patience_s = PATIENCE_S

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        for node in self._nodes:
            node.close()

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
        response = self._send(method, api_path(*path), headers=headers, **options)
        if response.status < 300 or (missing_ok and response.status == 404) or (unlike and response.status == 304):
            return response
        with self._explained():
            text = response.data
        raise self._failed(f"answered {response.status} to {method}", path, response.status, _reason(response, text))

    def _send(self, method: str, path: str, **options: Any) -> urllib3.BaseHTTPResponse:
        """Return the answer. A node that has just started has no words for its failure, and is asked again."""
        while True:
            response = self._first_answer(method, path, **options)
            if response.status != 500 or response.data or self._patience_s <= 0:
                return response
            self._patience_s -= _PAUSE_S
            time.sleep(_PAUSE_S)

    def _first_answer(self, method: str, path: str, **options: Any) -> urllib3.BaseHTTPResponse:
        """Return the answer of the first node that gives one. Of several, a silent one costs 3 s before the request."""
        failed: dict[_Node, HTTPError] = {}
        refusal: urllib3.BaseHTTPResponse | None = None
        for node in sorted(self._nodes, key=lambda each: (not each.alive, is_silent(each.url))):
            try:
                if len(self._nodes) > 1 and not node.alive:
                    node.whoami(self._headers)
                response = node.request(method, path, **options)
                if response.status >= 400:
                    _ = response.data  # all of it: the next request takes the same connection
                # A node that stops drops the whole API first: what it had is missing then, and not gone.
                if response.status == 404 and node.whoami(self._headers) == 404:
                    raise ProtocolError("it has no management API: it stops, or is another service")
                node.alive = not _is_not_now(method, path, response)
            except HTTPError as error:
                node.alive, failed[node] = False, error
                _silent.add(node.url)
                continue
            _silent.discard(node.url)
            if node.alive:
                return response
            refusal = response
        if refusal is not None:
            return refusal
        raise self._unavailable(failed) from next(iter(failed.values()))

    def _unavailable(self, failed: Mapping[_Node, HTTPError]) -> BrokerUnavailable:
        """Return the error that names every node that was asked, in the order of the addresses."""
        first, *others = [node for node in self._nodes if node in failed]
        problem = first.problem(failed[first])
        problem += "".join(f"; {node.url} {node.problem(failed[node])}" for node in others)
        if all(why(error, node.url) for node, error in failed.items()):
            return BrokerUntrusted(f"the broker at {first.url} {problem}", problem)
        return BrokerUnavailable(f"the broker at {first.url} {problem}. Start it and run again", problem)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Translate an answer that ends early."""
        try:
            yield
        except HTTPError as error:
            node = min(self._nodes, key=lambda each: not each.alive)
            raise self._unavailable({node: error}) from error

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


def _is_not_now(method: str, path: str, response: urllib3.BaseHTTPResponse) -> bool:
    """Return True for the answer of a node that starts, or that has lost the others.

    The latter is 400 to a change of a user.
    """
    if response.status in _NOT_NOW:
        return not path.startswith(_HEALTH)
    return method != "GET" and response.status == 400 and _reason(response, response.data) == "timeout"


def _reason(response: urllib3.BaseHTTPResponse, text: bytes) -> str:
    try:
        answer = json.loads(text)
    except ValueError:
        return response.reason or "no reason given"
    reason = answer.get("reason") or answer.get("error") if isinstance(answer, dict) else answer
    return str(reason).strip()[:200] or "no reason given"
