"""Lose a platform, and bring it back: `scripts/drill [--json] [TENANTS]`; default: 20 tenants. Needs Docker.

A platform with tenants in stacks of their own is made, with messages. Everything of it is backed up, as an operator
does, with a key made for it. Then the broker's and the database's containers and volumes are removed, and the state of
every stack with them: left are the project's files, the passphrase, the key and the bundles. The platform is restored
by one command, and each tenant's application sends and gets a message with the password that it had. Times are those of
the commands as a whole. Messages that were in the queues are lost: no bundle holds them.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import docker

from benchmarks.report import Bound, Report
from kryonix.messaging import Message, MessagingClient
from tests.support.project import Project

BOUND_S: Final = 180
"""Seconds from the loss to messages that flow again, at most."""
_ENGINE: Final = ("--engine", "local")
_LEFT: Final = 3
"""Messages left in a queue of each tenant."""


class Drill:
    """One drill, and the seconds of each step."""

    def __init__(self, folder: Path, tenants: int) -> None:
        self.project = Project.platform(folder / "project")
        self.ids = [f"drill-{number:02}" for number in range(1, tenants + 1)]
        self.seconds: dict[str, float] = {}
        self._identity, self._store = folder / "identity", folder / "bundles"

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        print(f"drill: {name}", file=sys.stderr)
        began = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - began

    def run(self) -> None:
        with self.step("prepare: platform"):
            self.project.must("up")
        with self.step("prepare: tenants"), ThreadPoolExecutor(2) as pool:
            uris = list(pool.map(self._create, self.ids))
        with self.step("prepare: messages"):
            asyncio.run(_every(uris, _leave))
        with self.step("back up"):
            recipient = json.loads(self._kryonix("backup", "keygen", str(self._identity), "--json"))["recipient"]
            self._on_platform("create", "--all", "--to", str(self._store), "--recipient", recipient)
        with self.step("lose broker, database and state"):
            self._lose()
        with self.step("restore"):
            identity = ("--identity", str(self._identity))
            self._on_platform("restore", "--all", "--from", str(self._store), *identity, "--yes")
        with self.step("messages flow, old passwords"):
            asyncio.run(_every(uris, _exchange))
        with self.step("previews show no change"):
            self._unchanged()

    def _create(self, id: str) -> str:
        modules = ("--modules", "crm", "--plan", "basic")
        made = self._kryonix("tenant", "create", id, *modules, "--stack", self.project.stack, *_ENGINE, "--json")
        return str(json.loads(made)["amqp_uri"])

    def _on_platform(self, command: str, *arguments: str) -> None:
        self._kryonix("backup", command, "--stack", self.project.stack, *_ENGINE, *arguments)

    def _kryonix(self, *arguments: str) -> str:
        result = self.project.kryonix(*arguments)
        if result.returncode:
            raise SystemExit(f"drill: kryonix {' '.join(arguments)} ended with {result.returncode}:\n{result.stderr}")
        return result.stdout

    def _lose(self) -> None:
        for container in self.project.containers():
            container.remove(force=True, v=True)
        with closing(docker.from_env()) as client:
            for volume in client.volumes.list(filters={"name": f"kryonix-{self.project.stack}-"}):
                volume.remove()
        shutil.rmtree(self.project.folder / ".kryonix")

    def _unchanged(self) -> None:
        if changed := [str(step["name"]) for step in self.project.must("preview")["steps"]]:
            raise SystemExit(f"drill: after the restore, a preview shows changes: {', '.join(changed)}")
        self._kryonix("fleet", "drift", "--stack", self.project.stack, *_ENGINE, "--expect-no-changes")


async def _every(uris: list[str], use: Any) -> None:
    """Let each tenant's application do something, several at a time."""
    at_once = asyncio.Semaphore(8)

    async def one(uri: str) -> None:
        async with at_once, await MessagingClient.connect(uri, application="drill") as client:
            await use(client)

    await asyncio.gather(*map(one, uris))


async def _leave(client: MessagingClient) -> None:
    for number in range(_LEFT):
        await client.crm.send("leads.create", {"number": number})


async def _exchange(client: MessagingClient) -> None:
    got = asyncio.Event()

    async def handle(message: Message[Any]) -> None:
        got.set()

    await client.crm.consume("leads.create", handle)
    await client.crm.send("leads.create", {"after": "the drill"})
    await asyncio.wait_for(got.wait(), 30)


def main() -> int:
    given = [argument for argument in sys.argv[1:] if argument != "--json"]
    tenants, load = int(given[0]) if given else 20, os.getloadavg()[0]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # an ended drill takes its containers away too
    with tempfile.TemporaryDirectory() as folder:
        drill = Drill(Path(folder), tenants)
        try:
            drill.run()
        finally:
            drill.project.remove()
    back = sum(drill.seconds[name] for name in ("restore", "messages flow, old passwords"))
    seconds = {f"{name}_s": value for name, value in drill.seconds.items()}
    figures = {"tenants": float(tenants), "load_at_start": load, **seconds, "lost_messages": float(_LEFT * tenants)}
    return Report("a drill", figures, [Bound("from the loss to messages that flow, s", back, BOUND_S)]).print()


if __name__ == "__main__":
    sys.exit(main())
