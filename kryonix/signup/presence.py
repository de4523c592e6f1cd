"""Whether the database answers, so that requests don't all wait for one that does not."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Final

from kryonix.registry.bounded import NoAnswer

__all__ = ["Presence"]

_PATIENCE_S: Final = 1
"""How long failures may follow on one another before the database is taken to be away: a single stale connection is
replaced sooner."""


class Presence:
    """Lets everybody ask a database that answers, and one caller at a time ask one that does not.

    The others are refused at once, so that threads and callers are not used up by waiting.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asking = Lock()
        self._missed_since: float | None = None
        self._answered_at = -math.inf

    @property
    def away(self) -> bool:
        since = self._missed_since
        return since is not None and self._clock() - since >= _PATIENCE_S

    def missed(self, since: float | None = None) -> None:
        """Note that there was no answer, or no connection, now or since a moment of the clock."""
        if self._missed_since is None:
            self._missed_since = self._clock() if since is None else since

    def answered(self) -> None:
        """Note an answer."""
        self._missed_since = None
        self._answered_at = self._clock()

    def answered_since(self, moment: float) -> bool:
        return self._answered_at >= moment

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Ask, in a block that ends with `answered` or an error. Raises NoAnswer where another caller asks already."""
        if not self.away:
            yield
            return
        if not self._asking.acquire(blocking=False):
            raise NoAnswer("it has not answered for a while")
        try:
            yield
        finally:
            self._asking.release()
