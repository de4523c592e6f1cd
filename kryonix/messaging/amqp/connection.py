"""aiormq's connection, with its messages read and written by `frames`, and patient with a busy broker's login."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Final, cast

import aiormq
import pamqp.frame
from aiormq.channel import Channel
from aiormq.connection import (
    FrameReceiver,
    TCPTransportFactory,
    TLSTransportFactory,
    TransportFactory,
    exception_by_code,
)
from pamqp.base import Frame
from pamqp.commands import Connection as Method
from pamqp.exceptions import AMQPAccessRefused
from pamqp.heartbeat import Heartbeat
from yarl import URL

from kryonix.messaging.amqp.frames import FrameReader, GatheringWriter, Taker

_MISSED: Final = 3
"""Heartbeats that may fail to come, as in aiormq."""


class _Sockets(TransportFactory):
    """aiormq's sockets, with this package's reader and writer."""

    reader: FrameReader
    writer: GatheringWriter

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        usual = TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory()
        reader, writer = await usual.create(url, **kwargs)
        self.reader, self.writer = FrameReader(reader), GatheringWriter(writer)
        return cast(asyncio.StreamReader, self.reader), cast(asyncio.StreamWriter, self.writer)


class Connection(aiormq.Connection):
    """A connection whose channels may take their frames themselves. Use `connect()` below to open one."""

    def __init__(self, uri: str, name: str, context: ssl.SSLContext | None) -> None:
        self._sockets = _Sockets()
        super().__init__(
            uri, context=context, client_properties={"connection_name": name}, transport_factory=self._sockets
        )

    @property
    def writer(self) -> GatheringWriter:
        return self._sockets.writer

    @property
    def silent_for(self) -> float:
        """Seconds since the broker's last bytes, a heartbeat included."""
        return self.loop.time() - self._sockets.reader.heard

    @property
    def is_connection_was_stuck(self) -> bool:
        """aiormq's name for: the broker's heartbeats fail to come. It sees only the frames that nobody takes."""
        return self.silent_for > (self.heartbeat_timeout + 1) * _MISSED

    @property
    def is_blocked(self) -> bool:
        """True while the broker stops publishers, as at a memory alarm."""
        unblocked: asyncio.Event = vars(self)["_Connection__connection_unblocked"]
        return not unblocked.is_set()

    def abort(self) -> None:
        """Drop the connection at once, with all that waits to be written."""
        self.writer.transport.abort()

    async def open_channel(self, *, confirmed: bool = False) -> Channel:
        """Open a channel, in confirm mode with returned messages as errors if `confirmed`."""
        return cast(Channel, await self.channel(publisher_confirms=confirmed, on_return_raises=confirmed))

    def take(self, channel: Channel, taker: Taker) -> None:
        """Give a channel's frames to a taker, until the channel has ended."""
        self._sockets.reader.takers[channel.number] = taker
        channel.closing.add_done_callback(lambda _: self._give_back(channel.number, taker))

    def _give_back(self, number: int, taker: Taker) -> None:
        if self._sockets.reader.takers.get(number) is taker:
            del self._sockets.reader.takers[number]

    @staticmethod
    async def _rpc(
        request: Frame, writer: asyncio.StreamWriter, frame_receiver: FrameReceiver, wait_response: bool = True
    ) -> pamqp.frame.FrameTypes | None:
        """Send a request of the login, and return its answer.

        aiormq takes a heartbeat for the answer. RabbitMQ sends them while it lets a client wait: to count a tenant's
        connections it asks every node, also one that was just lost in silence, which it gives up after 7 s at most.
        And aiormq drops the reason of a close.
        """
        writer.write(pamqp.frame.marshal(request, 0))
        await writer.drain()
        while wait_response:
            _, _, frame = await frame_receiver.get_frame()
            if isinstance(frame, Method.Close):
                if frame.reply_code == AMQPAccessRefused.value:
                    raise aiormq.exceptions.ProbableAuthenticationError(frame.reply_text)
                raise exception_by_code(frame)
            if not isinstance(frame, Heartbeat):
                return frame
        return None


async def connect(uri: str, name: str, context: ssl.SSLContext | None) -> Connection:
    """Return a connection that is ready, shown as `name` in the management UI. Raises aiormq's errors."""
    connection = Connection(uri, name, context)
    await connection.connect()
    await connection.ready()
    return connection
