"""Connections that wait for an answer so long and no longer: a frozen server keeps its sockets open, in silence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg.errors import _WaitTimeout

__all__ = ["KEEPALIVES", "BoundedConnection", "NoAnswer"]

KEEPALIVES: Final[dict[str, Any]] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
"""libpq's settings by which a machine that vanished is noticed within 25 s. They mean nothing on a Unix socket."""


class NoAnswer(psycopg.OperationalError):
    """The server has not answered in time. The connection is closed."""


class BoundedConnection(psycopg.Connection[dict[str, Any]]):
    """A connection that is closed, with NoAnswer, where the server takes longer than `answer_s` for one answer.

    A statement_timeout is the server's own, and a stopped process keeps none. TCP notices nothing either: the kernel
    of a frozen server still acknowledges.
    """

    answer_s: float = 30

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        if timeout is not None:
            return super().wait(gen, interval=interval, timeout=timeout)
        try:
            return super().wait(gen, interval=interval, timeout=self.answer_s)
        except _WaitTimeout as error:
            self.pgconn.finish()  # the answer may still come, and would be taken for the next statement's
            raise NoAnswer(f"no answer within {self.answer_s:g} s") from error

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Wait less, or more, for the answers of a block."""
        before, self.answer_s = self.answer_s, seconds
        try:
            yield
        finally:
            self.answer_s = before
