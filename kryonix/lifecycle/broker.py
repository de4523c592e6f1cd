"""What a lifecycle asks of a broker beside its resources: to cut off a tenant's applications, and what a vhost has."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote

import httpx

from kryonix.lifecycle.errors import LifecycleError

__all__ = ["Broker", "BrokerUnavailable"]

_TIMEOUT: Final = httpx.Timeout(30, connect=5)
_CUT_OFF_S: Final = 10
_LIVE_TOTALS: Final = {"disable_stats": "true", "enable_queue_totals": "true"}
_REASON: Final = {"X-Reason": "the tenant is suspended"}


class BrokerUnavailable(LifecycleError):
    """The broker does not answer, or refuses what was asked."""

    exit_status = 3


class Broker:
    """The management API of one cell's broker, as its administrator."""

    def __init__(self, outputs: Mapping[str, Any]) -> None:
        """From the outputs of the platform's stack."""
        self._url = str(outputs["management_url"])
        self._auth = (str(outputs["admin_username"]), str(outputs["admin_password"]))

    def cut_off(self, users: Iterable[str]) -> None:
        """Close every connection of these users, until none is left."""
        with self._client() as client:
            for user in users:
                path = f"connections/username/{quote(user, safe='')}"
                until = time.monotonic() + _CUT_OFF_S
                while client.delete(path, headers=_REASON).raise_for_status() and self._connected(client, path):
                    if time.monotonic() > until:
                        raise BrokerUnavailable(
                            f"connections of {user!r} are still open {_CUT_OFF_S} s after the broker at {self._url} "
                            "was told to close them. Run again"
                        )
                    time.sleep(0.1)

    def definitions(self, vhost: str) -> dict[str, Any]:
        """Exchanges, queues, bindings, policies and limits of a vhost; no users. Empty where there is no such vhost."""
        with self._client() as client:
            response = client.get(f"definitions/{quote(vhost, safe='')}")
            if response.status_code == httpx.codes.NOT_FOUND:
                return {}
            found: dict[str, Any] = response.raise_for_status().json()
            return found

    def messages(self, vhost: str) -> dict[str, int]:
        """How many messages each queue of a vhost holds that holds any, as of up to 5 s ago."""
        with self._client() as client:
            response = client.get(f"queues/{quote(vhost, safe='')}", params=_LIVE_TOTALS)
            found = [] if response.status_code == httpx.codes.NOT_FOUND else response.raise_for_status().json()
            return {queue["name"]: queue["messages"] for queue in found if queue.get("messages")}

    def remains(self, vhost: str, users: Iterable[str]) -> list[str]:
        """Which of a vhost and its users are there, by name."""
        wanted = [("vhosts", vhost), *(("users", user) for user in users)]
        with self._client() as client:
            return [name for kind, name in wanted if self._exists(client, f"{kind}/{quote(name, safe='')}")]

    @staticmethod
    def _exists(client: httpx.Client, path: str) -> bool:
        response = client.get(path)
        return response.status_code != httpx.codes.NOT_FOUND and bool(response.raise_for_status())

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
            raise BrokerUnavailable(
                f"the broker at {self._url} answered {answer}. Run again once it is well"
            ) from error
        except httpx.HTTPError as error:
            raise BrokerUnavailable(
                f"the broker at {self._url} does not answer ({error}). Start it and run again"
            ) from error
