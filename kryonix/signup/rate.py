"""How often a caller may ask: a bucket of tokens for each, in this process's memory."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Final

from kryonix.signup.errors import TooManyRequests

__all__ = ["RateLimit"]

_REMEMBERED: Final = 10_000
"""Callers with a bucket. The one that has asked least recently is forgotten first, and begins with a full one."""


class RateLimit:
    """Lets `burst` requests pass at once, and `per_second` in the long run."""

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._lock = Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> None:
        """Count a request. Raises TooManyRequests."""
        now = self._clock()
        with self._lock:
            tokens, at = self._buckets.pop(caller, (float(self._burst), now))
            tokens = min(self._burst, tokens + (now - at) * self._per_second)
            allowed = tokens >= 1
            self._buckets[caller] = (tokens - 1 if allowed else tokens, now)
            if len(self._buckets) > _REMEMBERED:
                self._buckets.popitem(last=False)
        if not allowed:
            raise TooManyRequests((1 - tokens) / self._per_second)
