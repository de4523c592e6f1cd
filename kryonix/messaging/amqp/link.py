"""A supervised connection: replaced whenever it breaks, and never waited for without a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
from collections.abc import Callable
from typing import Final

import aio_pika
from aio_pika.abc import AbstractConnection

from kryonix.messaging.amqp.failures import BROKEN, not_connected
from kryonix.messaging.amqp.wire import GatheringConnection, TolerantConnection, is_unreadable
from kryonix.messaging.configuration import Address
from kryonix.messaging.errors import AccessRefused, NotConnected

log = logging.getLogger("kryonix.messaging")

REPORTED: Final = (
    "error when creating transport",
    "Unexpected connection close",
    "Cancelling cause reader exited abnormally",
    "Server connection %r was stuck",
    "Consumer %r cancelled by the broker",
    "Closing channel %r",
    "It looks like you are going to send a frame %r after the connection is closed",
)
"""The beginnings of aiormq's log entries about what the SDK reports itself, once instead of at each attempt."""
for _part in ("abc", "channel", "connection"):
    logging.getLogger(f"aiormq.{_part}").addFilter(lambda record: not str(record.msg).startswith(REPORTED))

_ATTEMPT_S: Final = 10.0
_FIRST_PAUSE_S: Final = 0.1
_MAX_PAUSE_S: Final = 5.0
_CLOSE_S: Final = 3.0
"""Time for the broker to answer a close."""


class Link:
    """A supervised connection.

    aio-pika's robust connection lets publishers wait without end while it is down, and may come back without its
    channels. This one is replaced by a new connection, and its users are notified.
    """

    def __init__(self, address: Address, name: str, ssl_context: ssl.SSLContext | None, heartbeat: int) -> None:
        self._address, self._name, self._ssl, self._heartbeat = address, name, ssl_context, heartbeat
        self._connection: AbstractConnection | None = None
        self._up = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._error: NotConnected | None = None
        self._logged: set[str] = set()
        self._opened = self._closed = False
        self._connection_class = GatheringConnection
        self._on_loss: list[Callable[[], None]] = []

    @property
    def connected(self) -> bool:
        return self._connection is not None

    def on_loss(self, notify: Callable[[], None]) -> None:
        """Call `notify` whenever the connection breaks."""
        self._on_loss.append(notify)

    async def open(self, timeout: float) -> None:
        """Connect. Raises AccessRefused at once, NotConnected at the deadline."""
        deadline = asyncio.get_running_loop().time() + timeout
        self._keeper = asyncio.create_task(self._keep(), name=f"kryonix link {self._name}")
        try:
            while not self.connected:
                with contextlib.suppress(NotConnected):
                    await self.connection(min(0.05, timeout))
                if isinstance(self._error, AccessRefused):
                    raise self._error
                if asyncio.get_running_loop().time() >= deadline and not self.connected:
                    raise self.missing(timeout)
            self._opened = True
        except BaseException:
            await self.close()
            raise

    async def connection(self, timeout: float) -> AbstractConnection:
        """Return the connection as soon as there is one. Raises NotConnected after `timeout` seconds."""
        if self._connection is not None:
            return self._connection
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(timeout, 0)):
                await self._up.wait()
        if self._connection is None:
            raise self.missing(timeout)
        return self._connection

    def missing(self, timeout: float) -> NotConnected:
        """Return the reason for the missing connection, after a wait of `timeout` seconds."""
        if self._closed:
            return NotConnected("the client is closed", remedy="Connect a new one")
        if self._error is not None:
            return type(self._error)(
                f"{self._error.problem}; waited {round(timeout, 3):g} s", remedy=self._error.remedy
            )
        return NotConnected(f"no connection to {self._address.place} within {round(timeout, 3):g} s")

    async def close(self) -> None:
        """Disconnect, and wake the tasks waiting for a connection."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper], timeout=_CLOSE_S + 1)
        self._keeper, self._closed = None, True
        self._up.set()

    async def _keep(self) -> None:
        pause = _FIRST_PAUSE_S
        while True:
            connection = await self._connect()
            if connection is None:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads clients, guards nothing
                pause = min(pause * 2, _MAX_PAUSE_S)
                continue
            pause = _FIRST_PAUSE_S
            try:
                await self._use(connection)
            finally:
                self._connection = None
                self._up.clear()
                for notify in self._on_loss:
                    notify()
                with contextlib.suppress(*BROKEN, TimeoutError):
                    async with asyncio.timeout(_CLOSE_S):
                        await connection.close()

    async def _use(self, connection: AbstractConnection) -> None:
        """Offer a connection until it is lost."""
        assert connection.transport is not None  # noqa: S101 - connect() returns an open one
        lost = connection.transport.connection.closing
        if self._error is not None:
            log.warning("%s: connected again to %s", self._name, self._address.place)
        self._connection, self._error = connection, None
        self._logged.clear()
        self._up.set()
        await asyncio.wait([lost])
        reason = asyncio.CancelledError() if lost.cancelled() else lost.exception()
        if reason is not None and is_unreadable(reason):
            self._connection_class = TolerantConnection
        self._error = not_connected(self._address, reason or ConnectionError("closed by the broker"))
        log.warning("%s: connection lost, connecting again: %s", self._name, self._error.problem)

    async def _connect(self) -> AbstractConnection | None:
        try:
            async with asyncio.timeout(_ATTEMPT_S):
                return await aio_pika.connect(
                    f"{self._address.uri()}{'&' if self._address.query else '?'}heartbeat={self._heartbeat}",
                    client_properties={"connection_name": self._name},
                    ssl_context=self._ssl,
                    connection_class=self._connection_class,
                )
        except TimeoutError:
            error = NotConnected(f"{self._address.place} did not answer within {_ATTEMPT_S:g} s")
        except Exception as failure:  # noqa: BLE001 - the keeper must survive any answer of any server
            error = not_connected(self._address, failure)
        refused = isinstance(error, AccessRefused) and not self._opened  # open() raises it, and does not try again
        if not refused and error.problem not in self._logged:
            self._logged.add(error.problem)  # a broker that starts alternates between several
            log.warning("%s: %s; trying again", self._name, error.problem)
        self._error = error
        return None
