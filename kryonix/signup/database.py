"""The service's PostgreSQL connections."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, Final

from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool, PoolTimeout

from kryonix.registry.bounded import KEEPALIVES, BoundedConnection, NoAnswer
from kryonix.registry.errors import address_parts, translated
from kryonix.registry.rows import Connection
from kryonix.registry.schema import SIGNUP_SCHEMA

__all__ = ["Database", "Presence", "connection_settings"]


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


ANSWER_S: Final = 5
"""How long a statement of the web's may take."""

_WAIT_S: Final = 5
_CHECK_S: Final = 2
_MARGIN_S: Final = 1
"""By which the client waits longer than the server works: a slow statement is no server that is away."""


def connection_settings(dsn: str, answer_s: float) -> dict[str, Any]:
    """How a connection is made: with bounds, and in the schema, as procrastinate's statements do not say it."""
    given = address_parts(dsn).get("options") or ""  # an argument takes the place of those of the DSN
    ours = f"-c search_path={SIGNUP_SCHEMA} -c statement_timeout={answer_s * 1000:.0f}"
    return {"connect_timeout": 5, **KEEPALIVES, "options": f"{given} {ours}".strip()}


class Database:
    """A pool of connections. Made closed; use it as a context manager. Raises RegistryAddressInvalid.

    A transaction that can't be had, or a statement that is not answered, ends within seconds whatever has become of the
    server: stopped, frozen, or gone with its machine.
    """

    def __init__(self, dsn: str, *, size: int = 10, answer_s: float = ANSWER_S) -> None:
        address_parts(dsn)  # the pool would log libpq's text, again and again, which quotes one that can't be read
        self._dsn = dsn
        self._answer_s = answer_s + _MARGIN_S
        self._presence = Presence()
        self._pool = ConnectionPool(
            dsn,
            min_size=1,
            max_size=size,
            timeout=_WAIT_S,
            reconnect_timeout=_WAIT_S,  # pauses between attempts grow: later ones would miss the database's return
            open=False,
            kwargs={**connection_settings(dsn, answer_s), "row_factory": dict_row},
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
        """A transaction, committed at the end. Raises RegistryUnavailable or RegistryRefused."""
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
            if not self._presence.answered_since(began):  # else all connections are in use, which is another matter
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
