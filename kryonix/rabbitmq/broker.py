"""A broker's management API for operations on tenants: close connections, read a vhost, repair passwords."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote

import httpx

from kryonix.engines.errors import LifecycleError
from kryonix.engines.events import Step
from kryonix.topology.credentials import is_hash_of
from kryonix.topology.naming import stats_user

_TIMEOUT: Final = httpx.Timeout(30, connect=5)
_CUT_OFF_S: Final = 10
_LIVE_TOTALS: Final = {"disable_stats": "true", "enable_queue_totals": "true"}
_REASON: Final = {"X-Reason": "the tenant is suspended"}
_LONGEST: Final = 16 * 2**20
"""Maximum bytes read of a list: a tenant may have created any number of objects."""

_AT_ONCE: Final = 8


class BrokerUnavailable(LifecycleError):
    """The broker does not answer, or refuses the request."""

    exit_status = 3


class BrokerFailed(BrokerUnavailable):
    """The broker answers with an error."""


class Broker:
    """The management API of one cell's broker, used as its administrator."""

    def __init__(self, outputs: Mapping[str, Any]) -> None:
        """`outputs` are those of the platform's stack."""
        self._url = str(outputs["management_url"])
        self.username = str(outputs["admin_username"])
        self._auth = (self.username, str(outputs["admin_password"]))

    def cut_off(self, users: Iterable[str]) -> None:
        """Close all connections of these users, until none is open."""
        with self._client() as client:
            for user in users:
                path = f"connections/username/{quote(user, safe='')}"
                until = time.monotonic() + _CUT_OFF_S
                while client.delete(path, headers=_REASON).raise_for_status() and self._connected(client, path):
                    if time.monotonic() > until:
                        raise BrokerUnavailable(
                            f"connections of {user!r} are still open {_CUT_OFF_S} s after the broker at {self._url} "
                            "was asked to close them. Run again"
                        )
                    time.sleep(0.1)

    def definitions(self, vhost: str) -> dict[str, Any]:
        """Return a vhost's exchanges, queues, bindings, policies and limits, no users. Empty if missing."""
        with self._client() as client:
            response = client.get(f"definitions/{quote(vhost, safe='')}")
            if response.status_code == httpx.codes.NOT_FOUND:
                return {}
            found: dict[str, Any] = response.raise_for_status().json()
            return found

    def messages(self, vhost: str) -> dict[str, int]:
        """Return the messages of each non-empty queue of a vhost, up to 5 s old."""
        with self._client() as client:
            response = client.get(f"queues/{quote(vhost, safe='')}", params=_LIVE_TOTALS)
            found = [] if response.status_code == httpx.codes.NOT_FOUND else response.raise_for_status().json()
            return {queue["name"]: queue["messages"] for queue in found if queue.get("messages")}

    def remains(self, vhost: str, users: Iterable[str]) -> list[str]:
        """Return the names of the vhost and of those users that exist."""
        wanted = [("vhosts", vhost), *(("users", user) for user in users)]
        with self._client() as client:
            return [name for kind, name in wanted if self._exists(client, f"{kind}/{quote(name, safe='')}")]

    def listed(self, *path: str, **params: str) -> tuple[list[dict[str, Any]], bool]:
        """Return a list's entries, and True if complete: reading stops after 16 MiB. Empty if missing."""
        with self._client() as client, client.stream("GET", _path(path), params=params) as response:
            if response.status_code == httpx.codes.NOT_FOUND:
                return [], True
            response.raise_for_status()
            text = bytearray()
            for chunk in response.iter_bytes():
                text += chunk
                if len(text) > _LONGEST:
                    return _entries(text), False
        found: list[dict[str, Any]] = json.loads(text)
        return found, True

    def with_other_password(self, user: str, password: str) -> list[str]:
        """Return those of a tenant's two users, for messages and for metrics, that have another password."""
        with self._client() as client:
            both = (user, stats_user(user))
            return [name for name in both if not self._knows_password(client, name, password)]

    def set_password(self, user: str, password: str) -> None:
        """Set a user's password and keep its tags."""
        with self._client() as client:
            path = _path(("users", user))
            tags = ",".join(client.get(path).raise_for_status().json()["tags"])
            client.put(path, json={"password": password, "tags": tags}).raise_for_status()

    def delete_all(self, paths: Sequence[tuple[str, ...]]) -> None:
        """Delete objects, several at a time. Accepts missing ones."""

        def delete(path: tuple[str, ...]) -> None:
            response = client.delete(_path(path))
            if response.status_code != httpx.codes.NOT_FOUND:
                response.raise_for_status()

        with self._client() as client, ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(delete, paths))

    @staticmethod
    def _exists(client: httpx.Client, path: str) -> bool:
        response = client.get(path)
        return response.status_code != httpx.codes.NOT_FOUND and bool(response.raise_for_status())

    @staticmethod
    def _knows_password(client: httpx.Client, user: str, password: str) -> bool:
        """Return True if the user has this password, or does not exist."""
        response = client.get(_path(("users", user)))
        if response.status_code == httpx.codes.NOT_FOUND:
            return True
        return is_hash_of(str(response.raise_for_status().json()["password_hash"]), password)

    @staticmethod
    def _connected(client: httpx.Client, path: str) -> bool:
        return bool(client.get(path).raise_for_status().json())

    @contextmanager
    def _client(self) -> Iterator[httpx.Client]:
        transport = httpx.HTTPTransport(retries=1)
        url = f"{self._url.rstrip('/')}/api/"
        try:
            with httpx.Client(base_url=url, auth=self._auth, timeout=_TIMEOUT, transport=transport) as client:
                yield client
        except httpx.HTTPStatusError as error:
            answer = f"{error.response.status_code} to {error.request.method} {error.request.url.path}"
            raise BrokerFailed(f"the broker at {self._url} answered {answer}. Run again once it is healthy") from error
        except httpx.HTTPError as error:
            raise BrokerUnavailable(
                f"the broker at {self._url} does not answer ({error}). Start it and run again"
            ) from error


def password_step(user: str) -> Step:
    """Return the step for a password changed by hand."""
    return Step("", user, "rabbitmq:index/user:User", "update", ("password",))


def _path(parts: Iterable[str]) -> str:
    return "/".join(quote(part, safe="") for part in parts)


def _entries(text: bytearray) -> list[dict[str, Any]]:
    """Return the complete entries of a truncated JSON list."""
    decoder, cut, at = json.JSONDecoder(), text.decode(errors="ignore"), 1
    found: list[dict[str, Any]] = []
    while True:
        try:
            entry, at = decoder.raw_decode(cut, at)
        except ValueError:
            return found
        found.append(entry)
        at += 1  # the comma
