"""A value that is kept for a moment, so that many who ask cost one question."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

__all__ = ["Cached"]

_V = TypeVar("_V")


class Cached(Generic[_V]):
    """Fetches a value at most once in `seconds`. While one caller fetches, the others get the value before."""

    def __init__(
        self, seconds: float, fetch: Callable[[], _V], first: _V, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`first` is the value until there is one."""
        self._seconds, self._fetch, self._clock = seconds, fetch, clock
        self._value, self._at = first, -math.inf
        self._fetching = Lock()

    def get(self) -> _V:
        """Raises what the fetching raises."""
        if self._clock() - self._at < self._seconds or not self._fetching.acquire(blocking=False):
            return self._value
        try:
            self._value = self._fetch()
        finally:
            self._at = self._clock()
            self._fetching.release()
        return self._value
