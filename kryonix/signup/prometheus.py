"""The platform's Prometheus: which one, its login, its queries, and answers kept for some seconds."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar
from urllib.parse import urlsplit

import httpx
from starlette.concurrency import run_in_threadpool

from kryonix.errors import InvalidChoice
from kryonix.signup.errors import MonitoringOff, MonitoringUnavailable

log = logging.getLogger(__name__)

LOGIN_FILE_VARIABLE: Final = "KRYONIX_PROMETHEUS_LOGIN_FILE"
_TIMEOUT: Final = httpx.Timeout(5, connect=2)
_CONNECTIONS: Final = httpx.Limits(max_connections=8, max_keepalive_connections=4)
_MOST_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PrometheusAddress:
    """Where Prometheus is. Without a URL, monitoring is off."""

    url: str = ""
    login: tuple[str, str] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, given: str | None, outputs: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Self:
        """Return the given address, or else the one in the stack's outputs. Raises InvalidChoice."""
        file = environment.get(LOGIN_FILE_VARIABLE)
        login = _read_login(Path(file)) if file else None
        if given:
            return cls(_checked(given), login)
        name, password = outputs.get("monitoring_username"), outputs.get("monitoring_password")
        if login is None and name and password:
            login = (str(name), str(password))
        return cls(str(outputs.get("prometheus_url") or ""), login)


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise InvalidChoice(f"--prometheus {url!r} is not a valid URL. Give one such as http://127.0.0.1:9090")
    if parts.username is not None or parts.password is not None:
        shown = f"{parts.scheme}://{parts.hostname}"
        remedy = f"Put one line `username:password` in a file, and its path in {LOGIN_FILE_VARIABLE}"
        raise InvalidChoice(f"--prometheus {shown} contains a login, which other users could see. {remedy}")
    return url.rstrip("/")


def _read_login(file: Path) -> tuple[str, str]:
    try:
        name, separator, password = file.read_text("utf-8").strip().partition(":")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise InvalidChoice(f"{LOGIN_FILE_VARIABLE}: can't read {file}: {reason}") from error
    if not (name and separator and password):
        raise InvalidChoice(f"{LOGIN_FILE_VARIABLE}: {file} must contain one line `username:password`")
    return name, password


@dataclass(frozen=True, slots=True)
class Series:
    """Labels, and a value per moment in Unix seconds. What is not a number is absent."""

    labels: Mapping[str, str]
    values: Mapping[int, float]


class Prometheus:
    """Asks one Prometheus, with few connections and short timeouts. Usable while entered."""

    def __init__(self, address: PrometheusAddress, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._address, self._transport = address, transport
        self._client: httpx.AsyncClient | None = None
        self._failure = ""

    async def __aenter__(self) -> Self:
        if self._address.url:
            self._client = httpx.AsyncClient(
                base_url=self._address.url,
                auth=self._address.login,
                timeout=_TIMEOUT,
                limits=_CONNECTIONS,
                transport=self._transport,
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def query_range(self, query: str, start: int, end: int, step: int) -> list[Series]:
        """Evaluate a query at moments from start to end. Raises MonitoringOff and MonitoringUnavailable."""
        found = await self._ask("query_range", {"query": query, "start": start, "end": end, "step": step})
        return [_series(each["metric"], each["values"]) for each in found["result"]]

    async def query(self, query: str, at: int) -> list[Series]:
        """Evaluate a query at one moment. Raises as `query_range`."""
        found = await self._ask("query", {"query": query, "time": at})
        return [_series(each["metric"], [each["value"]]) for each in found["result"]]

    async def alerts(self) -> list[dict[str, Any]]:
        """Return pending and firing alerts with their annotations. Raises as `query_range`."""
        found = await self._ask("alerts", {})
        return list(found["alerts"])

    async def _ask(self, path: str, form: dict[str, Any]) -> dict[str, Any]:
        if self._client is None:
            raise MonitoringOff
        try:
            method = "POST" if form else "GET"  # a long query does not fit in a URL
            async with self._client.stream(method, f"/api/v1/{path}", data=form or None) as response:
                body = await _read(response)
            answer = await run_in_threadpool(json.loads, body)
            if response.is_success and answer["status"] == "success":
                found = dict(answer["data"])
                self._failure = ""
                return found
            reason = f"it answered {response.status_code}: {answer.get('error')}"
        except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
        if reason != self._failure:  # pages ask again every few seconds
            log.warning("Prometheus at %s can't be read: %s", self._address.url, reason)
        self._failure = reason
        raise MonitoringUnavailable


async def _read(response: httpx.Response) -> bytes:
    parts, size = [], 0
    async for part in response.aiter_bytes():
        parts.append(part)
        size += len(part)
        if size > _MOST_BYTES:
            raise ValueError(f"the answer is larger than {_MOST_BYTES:,} bytes")
    if response.status_code in (401, 403):
        raise ValueError(f"it answered {response.status_code}: check the login in the file of {LOGIN_FILE_VARIABLE}")
    return b"".join(parts)


def _series(labels: Mapping[str, str], values: list[tuple[float, str]]) -> Series:
    numbers = ((round(at), float(text)) for at, text in values)
    return Series(labels, {at: number for at, number in numbers if math.isfinite(number)})


def quoted(text: str) -> str:
    """Return the text as a string of PromQL, whatever it contains."""
    return json.dumps(text)


_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")
_KEPT: Final = 256


class Recent(Generic[_K, _V]):
    """Fetch the value of a key at most once in `seconds`, also if that fails. Concurrent callers share one fetch."""

    def __init__(
        self, seconds: float, fetch: Callable[[_K], Awaitable[_V]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds, self._fetch, self._clock = seconds, fetch, clock
        self._kept: OrderedDict[_K, tuple[float, asyncio.Task[_V]]] = OrderedDict()

    async def get(self, key: _K) -> _V:
        """Return the value, or raise what its fetch raised."""
        at, task = self._kept.get(key, (-math.inf, None))
        if task is None or (task.done() and self._clock() - at >= self._seconds):
            task = asyncio.ensure_future(self._fetched(key))
            self._kept[key] = self._clock(), task
            self._kept.move_to_end(key)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return await asyncio.shield(task)  # one caller that leaves does not end it for the others

    async def _fetched(self, key: _K) -> _V:
        try:
            return await self._fetch(key)
        finally:
            if key in self._kept:
                self._kept[key] = self._clock(), self._kept[key][1]
