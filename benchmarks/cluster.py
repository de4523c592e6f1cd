"""Brokers of 1 and 3 nodes, plain and with TLS: `python -m benchmarks.cluster [--json] [--messages N]`.

Four platforms are up at once and take turns, so that a machine that is slower for a while slows all of them: the SDK
publishes and consumes messages of 1 KiB, confirmed and acknowledged, with every node's address; the local engine brings
up a tenant with 8 modules in a stack of its own; and the same vhost is imported as definitions, which is the least that
a broker needs for it. Figures are the medians of the rounds, ratios the medians of the rounds' ratios. All nodes share
this machine: the nodes of a cluster on machines of their own are slower by the network, and faster by the processors.
Needs Docker, 3 GiB, and about ten minutes.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final
from unittest.mock import patch

from benchmarks.broker import Broker
from benchmarks.contenders import ACTION, CONCURRENCY, DATA, MODULE, PREFETCH, WINDOW
from benchmarks.report import Bound, Report
from kryonix.engines.local import LocalStack
from kryonix.messaging import Message, MessagingClient, Outgoing
from kryonix.topology.catalog import default_catalog
from kryonix.topology.expansion import Topology, expand
from kryonix.topology.tenants import Tenant
from tests.support.project import Project, tenant

ROUNDS: Final = 3
MESSAGES: Final = 5_000
MODULES: Final = tuple(default_catalog().modules)
KINDS: Final = {
    f"{nodes}_{'tls' if tls == 'true' else 'plain'}": {"brokerNodes": nodes, "tls": tls}
    for nodes in (1, 3)
    for tls in ("false", "true")
}

Figures = dict[str, float]


@dataclass(frozen=True)
class Contender:
    """One platform, with a tenant for messages."""

    kind: str
    project: Project
    messages: int

    def round(self, n: int) -> Figures:
        """Measure everything once."""
        figures = asyncio.run(self._messages()) | self._provisioning(n)
        return {f"{name}_{self.kind}_{unit}": value for (name, unit), value in figures.items()}

    async def _messages(self) -> dict[tuple[str, str], float]:
        file = self.project.folder / "outputs.json"
        async with await MessagingClient.connect(outputs=file, tenant="bench", prefetch=PREFETCH) as client:
            return {
                ("publish", "per_s"): self.messages / await self._publish(client),
                ("consume", "per_s"): self.messages / await self._consume(client),
            }

    async def _publish(self, client: MessagingClient) -> float:
        began = time.perf_counter()
        outgoing = (Outgoing(MODULE, ACTION, DATA) for _ in range(self.messages))
        (await client.send_many(outgoing, window=WINDOW, timeout=60)).raise_for_failed()
        return time.perf_counter() - began

    async def _consume(self, client: MessagingClient) -> float:
        left, done = self.messages, asyncio.Event()

        async def handle(message: Message) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                done.set()

        began = time.perf_counter()
        consumer = await client.module(MODULE).consume(ACTION, handle, concurrency=CONCURRENCY)
        await done.wait()
        took = time.perf_counter() - began
        await consumer.stop()
        return took

    def _provisioning(self, n: int) -> dict[tuple[str, str], float]:
        with patch.dict(os.environ, self.project.env):
            made = self.project.beside(f"tenant-{n}", tenant=tenant(f"up-{n}", *MODULES))
            stack = LocalStack(made.folder, made.stack)
            took = stack.up().seconds
            stack.destroy()
            return {("up", "s"): took, ("import", "s"): Broker(self.project.outputs()).import_definitions(vhost(n))}


def vhost(n: int) -> Topology:
    return expand(Tenant(id=f"import-{n}", modules=MODULES, plan="enterprise"), default_catalog())


def main() -> int:
    arguments = sys.argv[1:]
    messages = int(arguments[arguments.index("--messages") + 1]) if "--messages" in arguments else MESSAGES
    with ExitStack() as stack:
        contenders = [stack.enter_context(contender(kind, messages)) for kind in KINDS]
        rounds = [one_round(contenders, n) for n in range(-1, ROUNDS)][1:]  # the first warms up
    title = f"{messages} messages of 1 KiB and a tenant with {len(MODULES)} modules, medians of {ROUNDS} rounds"
    figures = {name: median(each[name] for each in rounds) for name in rounds[0]}
    return Report(title, figures, bounds(rounds)).print()


@contextmanager
def contender(kind: str, messages: int) -> Iterator[Contender]:
    """Bring up a platform, and take it away."""
    with tempfile.TemporaryDirectory() as folder:
        project = Project.platform(Path(folder) / "project", tenant("bench", MODULE))
        project.configure(**KINDS[kind])
        with project.running():
            project.write("outputs.json", json.dumps(project.outputs()))
            (project.folder / "outputs.json").chmod(0o600)
            yield Contender(kind, project, messages)


def one_round(contenders: list[Contender], n: int) -> Figures:
    print(f"round {n + 1} of {ROUNDS}", file=sys.stderr)
    figures: Figures = {}
    # Who comes first changes from round to round.
    for each in contenders[n % len(contenders) :] + contenders[: n % len(contenders)]:
        figures |= each.round(n)
    return figures


def bounds(rounds: list[Figures]) -> list[Bound]:
    """Return the bounds: what was measured on a loaded machine, and a third more.

    Three nodes of one machine write each message three times (measured: 3.0 and 2.1). TLS costs processor time only
    (1.5 and 1.4). An `up` is as many calls as objects, an import is one (2.2 to 3.1).
    """

    def ratio(name: str, figure: str, to: str, most: float) -> Bound:
        return Bound(name, median(each[figure] / each[to] for each in rounds), most)

    return [
        ratio("publish on 1 node / on 3", "publish_1_plain_per_s", "publish_3_plain_per_s", 4),
        ratio("consume on 1 node / on 3", "consume_1_plain_per_s", "consume_3_plain_per_s", 4),
        ratio("publish plain / with TLS", "publish_1_plain_per_s", "publish_1_tls_per_s", 2),
        ratio("publish plain / with TLS, 3 nodes", "publish_3_plain_per_s", "publish_3_tls_per_s", 2),
        ratio("consume plain / with TLS", "consume_1_plain_per_s", "consume_1_tls_per_s", 2),
        ratio("up / import, 1 node", "up_1_plain_s", "import_1_plain_s", 4),
        ratio("up / import, 3 nodes", "up_3_plain_s", "import_3_plain_s", 4),
        ratio("up / import, 3 nodes with TLS", "up_3_tls_s", "import_3_tls_s", 4),
        ratio("up on 3 nodes / on 1", "up_3_plain_s", "up_1_plain_s", 4),
    ]


if __name__ == "__main__":
    sys.exit(main())
