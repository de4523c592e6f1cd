"""The TypeScript SDK for tests: Node.js with its packages, and a program that uses it."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from tests.support.project import ROOT

__all__ = ["NODE", "Agent", "Failed", "agent"]

NODE: Final = ROOT / "scripts" / "node"
"""Runs a command with Node.js in the folder of the package."""
_LINE_MAX: Final = 2**26
"""Bytes of a line from the program."""


class Failed(Exception):
    """An error of the program: `name` is that of its class."""

    def __init__(self, name: str, message: str) -> None:
        self.name = name
        super().__init__(f"{name}: {message}")


@dataclass
class Agent:
    """A program that does with the TypeScript SDK what it is told."""

    process: asyncio.subprocess.Process
    messages: list[Mapping[str, Any]] = field(default_factory=list)
    """Those that its handlers were given."""
    log: list[str] = field(default_factory=list)
    _answers: dict[int, asyncio.Future[Any]] = field(default_factory=dict)
    _ids: Any = field(default_factory=itertools.count)

    async def call(self, op: str, **arguments: Any) -> Any:
        """Return the program's answer to a command. Raises Failed."""
        number = next(self._ids)
        self._answers[number] = answer = asyncio.get_running_loop().create_future()
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"id": number, "op": op, **arguments}).encode() + b"\n")
        await self.process.stdin.drain()
        return await answer

    async def read(self) -> None:
        """Take what the program writes, until it ends."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            told = json.loads(line)
            if "message" in told:
                self.messages.append(told["message"])
            elif "error" in told:
                self._answers[told["id"]].set_exception(Failed(told["error"]["name"], told["error"]["message"]))
            else:
                self._answers[told["id"]].set_result(told["ok"])
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(Failed("Ended", "\n".join(self.log[-20:])))

    async def hear(self) -> None:
        """Take what the program logs, until it ends."""
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.log.append(line.decode().rstrip())


@asynccontextmanager
async def agent(**connect: Any) -> AsyncIterator[Agent]:
    """Run the program for the block, connected as `connect` says."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        NODE, "node", "test/integration/agent.ts", stdin=pipe, stdout=pipe, stderr=pipe, limit=_LINE_MAX
    )
    made = Agent(process)
    readers = [asyncio.create_task(made.read()), asyncio.create_task(made.hear())]
    try:
        await made.call("connect", **connect)
        yield made
        await made.call("close", timeout=10)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 30)
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            raise
        await asyncio.gather(*readers)
