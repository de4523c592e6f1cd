"""The service's PostgreSQL connections."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, Final

from psycopg_pool import ConnectionPool, PoolTimeout

from kryonix.registry.connection import (
    KEEPALIVES,
    SIGNUP_SCHEMA,
    BoundedConnection,
    Connection,
    NoAnswer,
    load_queries,
)
from kryonix.registry.errors import address_parts, translated

QUERIES: Final = load_queries("kryonix.signup")

_PATIENCE_S: Final = 1
"""Seconds of failures in a row before the database counts as away. One stale connection is replaced sooner."""


class Presence:
    """Admit every caller while the database answers, and one at a time while it does not.

    The others are refused at once, so that waiting does not use up the threads.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asking = Lock()
        self._missed_since: float | None = None
        self.answered_at = -math.inf

    @property
    def away(self) -> bool:
        since = self._missed_since
        return since is not None and self._clock() - since >= _PATIENCE_S

    def missed(self, since: float | None = None) -> None:
        """Record a missing answer or connection, now or since a moment of the clock."""
        if self._missed_since is None:
            self._missed_since = self._clock() if since is None else since

    def answered(self) -> None:
        """Record an answer."""
        self._missed_since = None
        self.answered_at = self._clock()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Enter before a query; the block ends with `answered` or an error. Raises NoAnswer if refused."""
        if not self.away:
            yield
            return
        if not self._asking.acquire(blocking=False):
            raise NoAnswer("it has not answered for more than a second")
        try:
            yield
        finally:
            self._asking.release()


ANSWER_S: Final = 5
"""Time limit of a web request's statement, in seconds."""

_WAIT_S: Final = 5
_CHECK_S: Final = 2
_MARGIN_S: Final = 1
"""Extra seconds that the client waits: a slow statement does not mean that the server is away."""


def connection_settings(dsn: str, answer_s: float) -> dict[str, Any]:
    """Return connection arguments: time limits, and the search path that procrastinate's statements need."""
    given = address_parts(dsn).get("options") or ""  # an argument replaces the DSN's
    ours = f"-c search_path={SIGNUP_SCHEMA} -c statement_timeout={answer_s * 1000:.0f}"
    return {"connect_timeout": 5, **KEEPALIVES, "options": f"{given} {ours}".strip()}


class Database:
    """A connection pool, opened as a context manager. Raises RegistryAddressInvalid.

    Waiting for a connection or an answer ends within seconds, even if the server is frozen or its machine is gone.
    """

    def __init__(self, dsn: str, *, size: int = 10, answer_s: float = ANSWER_S) -> None:
        address_parts(dsn)  # the pool would log libpq's message, which quotes the password of an invalid DSN
        self._dsn = dsn
        self._answer_s = answer_s + _MARGIN_S
        self._presence = Presence()
        self._pool = ConnectionPool(
            dsn,
            min_size=1,
            max_size=size,
            timeout=_WAIT_S,
            reconnect_timeout=_WAIT_S,  # pauses between attempts grow; a later attempt would notice the return late
            open=False,
            kwargs=connection_settings(dsn, answer_s),
            configure=self._configure,
            check=self._check,
            connection_class=BoundedConnection,
        )

    def __enter__(self) -> Database:
        self._pool.open()
        return self

    def __exit__(self, *exc: object) -> None:
        self._pool.close()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Open a transaction and commit it at the end. Raises RegistryUnavailable or RegistryRefused."""
        with translated(self._dsn):
            with self._presence.asking():
                connection = self._taken()
            try:
                with connection:
                    yield connection
            except NoAnswer:
                self._presence.missed()
                raise
            finally:
                self._pool.putconn(connection)

    def _taken(self) -> BoundedConnection:
        began = time.monotonic()
        try:
            connection = self._pool.getconn()
        except PoolTimeout:
            if self._presence.answered_at < began:  # otherwise all connections are merely in use
                self._presence.missed(began)
            raise
        self._presence.answered()
        return connection

    def _configure(self, connection: BoundedConnection) -> None:
        connection.answer_s = self._answer_s

    def _check(self, connection: BoundedConnection) -> None:
        try:
            with connection.within(_CHECK_S):
                ConnectionPool.check_connection(connection)
        except Exception:
            self._presence.missed()
            raise
