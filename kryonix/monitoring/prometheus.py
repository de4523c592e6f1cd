"""Ask a platform's Prometheus over its HTTP API."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, Self
from urllib.parse import urlencode

import urllib3
from urllib3.exceptions import HTTPError

from kryonix.errors import ServiceUnreachable

Labels = Mapping[str, str]

_CONNECTIONS: Final = 8
_MOST_BYTES: Final = 16 * 1024 * 1024
_PART_BYTES: Final = 64 * 1024
_LONGEST_S: Final = 30
"""A whole answer, however steadily its parts come."""


class PrometheusUnavailable(ServiceUnreachable):
    """Prometheus does not answer, or refuses the query."""


class Prometheus:
    """One Prometheus server. Every question may raise PrometheusUnavailable; its text contains no password."""

    def __init__(self, url: str, username: str = "", password: str = "", *, read_s: float = 15) -> None:
        """`read_s` limits each wait for a part of an answer, in seconds."""
        self.url = url.rstrip("/")
        self._headers = urllib3.make_headers(basic_auth=f"{username}:{password}") if username else {}
        timeout = urllib3.Timeout(connect=3, read=read_s)
        self._pool = urllib3.PoolManager(timeout=timeout, retries=False, maxsize=_CONNECTIONS)

    @classmethod
    def of(cls, outputs: Mapping[str, Any]) -> Self | None:
        """Return the Prometheus of a platform, from the outputs of its stack; None without monitoring."""
        if not (url := outputs.get("prometheus_url")):
            return None
        return cls(str(url), outputs.get("monitoring_username") or "", outputs.get("monitoring_password") or "")

    def close(self) -> None:
        self._pool.clear()

    def query(self, expression: str, at: float | None = None) -> list[tuple[Labels, float]]:
        """Return the labels and the value of each series of an instant query, now or at a moment."""
        found = self._ask("query", query=expression, **({} if at is None else {"time": str(at)}))
        with self._readable():
            return [(dict(each["metric"]), float(each["value"][1])) for each in found["result"]]

    def query_range(self, expression: str, start: int, end: int, step: int) -> list[tuple[Labels, dict[int, float]]]:
        """Return the labels of each series, and its value at each moment that has one. Unix seconds."""
        found = self._ask("query_range", query=expression, start=str(start), end=str(end), step=str(step))
        with self._readable():
            return [
                (dict(each["metric"]), {round(at): float(text) for at, text in each["values"]})
                for each in found["result"]
            ]

    def alerts(self) -> list[Mapping[str, Any]]:
        """Return pending and firing alerts: `labels`, `annotations`, `state` and `activeAt`."""
        found = self._ask("alerts")
        with self._readable():
            return [_alert(each) for each in found["alerts"]]

    def targets(self) -> list[Mapping[str, Any]]:
        """Return the active targets, each with `scrapePool`, `scrapeUrl`, `health` and `lastError`."""
        found = self._ask("targets", state="active")
        with self._readable():
            return [dict(each) for each in found["activeTargets"]]

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Raise PrometheusUnavailable where an answer is none of Prometheus."""
        try:
            yield
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise PrometheusUnavailable(f"Prometheus at {self.url} answered what Prometheus does not") from error

    def _ask(self, path: str, **fields: str) -> Any:
        try:
            status, body = self._send(f"{self.url}/api/v1/{path}", fields)
        except HTTPError as error:
            cause = str(error.args[-1] if error.args else "").rpartition("): ")[2] or type(error).__name__
            raise PrometheusUnavailable(f"Prometheus at {self.url} does not answer ({cause})") from error
        if len(body) > _MOST_BYTES:
            raise PrometheusUnavailable(f"Prometheus at {self.url} answered more than {_MOST_BYTES:,} bytes")
        return data_of(body, status, self.url)

    def _send(self, url: str, fields: Mapping[str, str]) -> tuple[int, bytes]:
        """Return the status and the body, of which no more is read than is accepted."""
        form = urlencode(fields)
        if "query" in fields:  # a long expression does not fit in a URL
            headers = {**self._headers, "Content-Type": "application/x-www-form-urlencoded"}
            response = self._pool.urlopen("POST", url, body=form, headers=headers, preload_content=False)
        else:
            response = self._pool.urlopen("GET", f"{url}?{form}", headers=self._headers, preload_content=False)
        until, body = time.monotonic() + _LONGEST_S, bytearray()
        while (part := response.read1(_PART_BYTES)) and len(body) <= _MOST_BYTES:
            body += part
            if time.monotonic() > until:
                response.close()
                raise PrometheusUnavailable(f"the answer of Prometheus at {self.url} lasts more than {_LONGEST_S} s")
        if len(body) > _MOST_BYTES:
            response.close()
        response.release_conn()
        return response.status, bytes(body)


def _alert(found: Any) -> dict[str, Any]:
    """Return an alert's parts. Raises if it is none of Prometheus."""
    labels, notes = ({name: str(text) for name, text in found[key].items()} for key in ("labels", "annotations"))
    datetime.fromisoformat(found["activeAt"][:19])
    if "alertname" not in labels:
        raise KeyError("alertname")
    return {"state": found["state"], "activeAt": found["activeAt"], "labels": labels, "annotations": notes}


def data_of(body: bytes, status: int, url: str) -> Any:
    """Return the data of an answer. Raises PrometheusUnavailable."""
    try:
        answer = json.loads(body)
        if answer["status"] == "success":
            return answer["data"]
        reason = f": {answer['error']}"
    except (ValueError, KeyError, TypeError, RecursionError):
        reason = ". Check its login" if status in (401, 403) else ""
    raise PrometheusUnavailable(f"Prometheus at {url} answered {status}{reason}")
