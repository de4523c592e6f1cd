"""Ask a platform's Prometheus over its HTTP API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Self

import urllib3
from urllib3.exceptions import HTTPError

from kryonix.errors import ServiceUnreachable

_TIMEOUT: Final = urllib3.Timeout(connect=3, read=15)


class PrometheusUnavailable(ServiceUnreachable):
    """Prometheus does not answer, or refuses the query."""


class Prometheus:
    """One Prometheus server. Every question may raise PrometheusUnavailable; its text contains no password."""

    def __init__(self, url: str, username: str = "", password: str = "") -> None:
        self.url = url.rstrip("/")
        self._headers = urllib3.make_headers(basic_auth=f"{username}:{password}") if username else {}
        self._pool = urllib3.PoolManager(timeout=_TIMEOUT, retries=False)

    @classmethod
    def of(cls, outputs: Mapping[str, Any]) -> Self | None:
        """Return the Prometheus of a platform, from the outputs of its stack; None without monitoring."""
        if not (url := outputs.get("prometheus_url")):
            return None
        return cls(str(url), outputs.get("monitoring_username") or "", outputs.get("monitoring_password") or "")

    def close(self) -> None:
        self._pool.clear()

    def query(self, expression: str) -> list[tuple[Mapping[str, str], float]]:
        """Return the labels and the value of each series of an instant query."""
        found = self._get("query", query=expression)["result"]
        return [(each["metric"], float(each["value"][1])) for each in found]

    def targets(self) -> list[Mapping[str, Any]]:
        """Return the active targets, each with `scrapePool`, `scrapeUrl`, `health` and `lastError`."""
        found: list[Mapping[str, Any]] = self._get("targets", state="active")["activeTargets"]
        return found

    def _get(self, path: str, **fields: str) -> Any:
        try:
            response = self._pool.request("GET", f"{self.url}/api/v1/{path}", fields=fields, headers=self._headers)
        except HTTPError as error:
            cause = str(error.args[-1] if error.args else "").rpartition("): ")[2] or type(error).__name__
            raise PrometheusUnavailable(f"Prometheus at {self.url} does not answer ({cause})") from error
        try:
            return response.json()["data"]
        except (ValueError, KeyError, TypeError):
            raise PrometheusUnavailable(f"Prometheus at {self.url} answered {response.status}") from None
