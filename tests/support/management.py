"""The broker's management API, with the login of any user."""

from __future__ import annotations

from typing import Any, Self
from urllib.parse import quote

import httpx

from kryonix.certificates.trust import context

__all__ = ["ManagementApi"]


class ManagementApi:
    """A connection to the API; a path is given in parts, which may hold slashes."""

    def __init__(self, url: str, username: str, password: str, ca_certificate: str = "") -> None:
        # The broker closes a connection that is idle for 5 s: one that is as old is not used again.
        limits = httpx.Limits(keepalive_expiry=1)
        self._http = httpx.Client(
            base_url=f"{url}/api/", auth=(username, password), timeout=30, limits=limits, verify=context(ca_certificate)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.close()

    def call(self, method: str, *path: str, json: Any = None, **params: str) -> httpx.Response:
        return self._http.request(method, "/".join(quote(part, safe="") for part in path), json=json, params=params)

    def get(self, *path: str, **params: str) -> Any:
        return self.call("GET", *path, **params).raise_for_status().json()

    def put(self, *path: str, json: Any) -> None:
        self.call("PUT", *path, json=json).raise_for_status()

    def delete(self, *path: str) -> None:
        self.call("DELETE", *path).raise_for_status()

    def has(self, *path: str) -> bool:
        return self.call("GET", *path).status_code == httpx.codes.OK
