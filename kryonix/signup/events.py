"""Domain events: the transactional outbox, and its publisher to the platform's exchange."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import aio_pika
from aio_pika.abc import AbstractConnection, AbstractExchange

from kryonix.rabbitmq.amqp import connect
from kryonix.rabbitmq.counts import BrokerAccess
from kryonix.registry.errors import RegistryError
from kryonix.signup.database import QUERIES, Database
from kryonix.topology.shared import EVENTS_EXCHANGE

log = logging.getLogger(__name__)

_BATCH: Final = 100
_PAUSE_S: Final = 0.5
_PAUSE_AFTER_FAILURE_S: Final = 3
_CONFIRM_S: Final = 10
_CONNECT_S: Final = 3
"""Seconds for each node."""


class EventPublisher:
    """Publish the outbox until cancelled. Several may run: a row is locked by one at a time."""

    def __init__(self, database: Database, uri: str, ca_certificate: str = "", addresses: Sequence[str] = ()) -> None:
        """`addresses` (HOST:PORT) are those of further nodes, for when that of the URI does not answer.

        `ca_certificate` is the CAs (PEM) to trust for `amqps`; empty: the system's.
        """
        self._database = database
        parts = urlsplit(uri)
        self._vhost = unquote(parts.path[1:])
        self._access = BrokerAccess(
            management_url="",
            username=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            amqp_host=parts.hostname or "",
            amqp_port=parts.port or 0,
            amqp_addresses=tuple(addresses),
            amqp_tls=parts.scheme == "amqps",
            ca_certificate=ca_certificate,
        )
        self._connection: AbstractConnection | None = None
        self._exchange: AbstractExchange

    async def run(self) -> None:
        """Publish until cancelled, waiting for a broker or a database that is away."""
        try:
            while True:
                await asyncio.sleep(await self._round())
        finally:
            await self._close()

    async def _round(self) -> float:
        """Publish what is in the outbox. Return the seconds to wait before the next round."""
        try:
            # In a thread, whose transaction locks the rows until the broker has confirmed them.
            published = await asyncio.to_thread(self._publish_locked, asyncio.get_running_loop())
        except RegistryError as error:
            log.warning("events wait: %s", error)
            return _PAUSE_AFTER_FAILURE_S
        except Exception as error:  # noqa: BLE001  the client reports a lost broker in many ways, and events must not stop
            log.warning("events wait: the broker does not take them (%s: %s)", type(error).__name__, error)
            await self._close()
            return _PAUSE_AFTER_FAILURE_S
        return 0 if published else _PAUSE_S

    def _publish_locked(self, loop: asyncio.AbstractEventLoop) -> int:
        with self._database.transaction() as connection:
            events = connection.execute(QUERIES["take_events"], {"limit": _BATCH}).fetchall()
            for event in events:
                asyncio.run_coroutine_threadsafe(self._publish(event), loop).result(2 * _CONFIRM_S)
                connection.execute(QUERIES["mark_published"], {"id": event["id"]})
            return len(events)

    async def _publish(self, event: Mapping[str, Any]) -> None:
        if self._connection is None or self._connection.is_closed:
            self._connection = await connect(self._access, self._vhost, timeout=_CONNECT_S)
            channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
            self._exchange = await channel.get_exchange(EVENTS_EXCHANGE.name, ensure=False)
        body = {"event": event["event"], "at": event["created_at"].isoformat(), **event["payload"]}
        message = aio_pika.Message(
            json.dumps(body).encode(),
            content_type="application/json",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            message_id=str(event["id"]),
            type=event["event"],
            timestamp=event["created_at"],
        )
        await self._exchange.publish(message, routing_key=event["event"], mandatory=True, timeout=_CONFIRM_S)

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await asyncio.gather(connection.close(), return_exceptions=True)
