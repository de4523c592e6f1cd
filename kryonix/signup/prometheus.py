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
from typing import Any, Final, Generic, Self, TypeVar
from urllib.parse import urlsplit

from anyio import CapacityLimiter, to_thread

from kryonix.errors import InvalidChoice
from kryonix.monitoring.prometheus import Prometheus, PrometheusUnavailable
from kryonix.signup.errors import MonitoringOff, MonitoringUnavailable

log = logging.getLogger(__name__)

LOGIN_FILE_VARIABLE: Final = "KRYONIX_PROMETHEUS_LOGIN_FILE"
_READ_S: Final = 5
_THREADS: Final = 8


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

    def connect(self) -> Prometheus | None:
        """Return the client, None if monitoring is off."""
        username, password = self.login or ("", "")
        return Prometheus(self.url, username, password, read_s=_READ_S) if self.url else None


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


_R = TypeVar("_R")


class Monitoring:
    """Asks the platform's Prometheus in a few threads of its own: one that does not answer holds up nothing else."""

    def __init__(self, server: Prometheus | None) -> None:
        """Without a server, monitoring is off."""
        self._server = server
        self._threads = CapacityLimiter(_THREADS)
        self._failure = ""

    async def ask(self, question: Callable[[Prometheus], _R]) -> _R:
        """Return the answer to a question. Raises MonitoringOff and MonitoringUnavailable."""
        if self._server is None:
            raise MonitoringOff
        try:
            answer = await to_thread.run_sync(question, self._server, limiter=self._threads, abandon_on_cancel=True)
        except PrometheusUnavailable as error:
            if str(error) != self._failure:  # pages ask again every few seconds
                log.warning("%s", error)
            self._failure = str(error)
            raise MonitoringUnavailable from error
        self._failure = ""
        return answer

    def close(self) -> None:
        if self._server is not None:
            self._server.close()


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
