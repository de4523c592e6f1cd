"""Ways to one broker that can be frozen and cut, each in the place of a node: what clients see of one that fails."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

__all__ = ["Way", "ways"]


@dataclass(eq=False)
class Way:
    """A port of this machine that leads to a broker."""

    host: str
    port: int
    own_port: int = 0
    connections: int = 0
    _flowing: asyncio.Event = field(default_factory=asyncio.Event)
    _pipes: set[asyncio.Task[None]] = field(default_factory=set)
    _server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.own_port}"

    async def open(self) -> None:
        """Take connections, at the same port as before."""
        self._flowing.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.own_port)
        self.own_port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Close every connection, and take no more."""
        if self._server is not None:
            self._server.close()
        for task in list(self._pipes):
            task.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)

    def freeze(self) -> None:
        """Let bytes go nowhere, and tell nobody. New connections are still accepted."""
        self._flowing.clear()

    def thaw(self) -> None:
        self._flowing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_connection(self.host, self.port)
        self.connections += 1
        for way in ((reader, behind_writer), (behind_reader, writer)):
            task = asyncio.create_task(self._pipe(*way))
            self._pipes.add(task)
            task.add_done_callback(self._pipes.discard)
        task.add_done_callback(lambda _: setattr(self, "connections", self.connections - 1))

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(65536):
                    await self._flowing.wait()
                    writer.write(data)
                    await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def ways(host: str, port: int, count: int = 3) -> AsyncIterator[list[Way]]:
    """Open so many ways to a broker for the block."""
    opened = [Way(host, port) for _ in range(count)]
    try:
        for way in opened:
            await way.open()
        yield opened
    finally:
        for way in opened:
            await way.cut()
