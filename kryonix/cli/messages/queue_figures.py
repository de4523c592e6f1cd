"""`kryonix stats`: the figures of a tenant's queues as a table, once or live, and as JSON."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from kryonix.cli.tables import Column, fitted
from kryonix.messaging import QueueStats, StatsUnavailable
from kryonix.messaging.amqp.management import queue_figures
from kryonix.messaging.configuration import Address
from kryonix.messaging.stats import read_stats
from kryonix.topology.catalog import Catalog
from kryonix.topology.naming import Names

__all__ = ["figures_json", "figures_table", "read", "watch"]

_TIMEOUT_S = 10.0
_COLUMNS = (
    Column("queue", folds=24),
    Column("depth", number=True),
    Column("ready", number=True, leaves=2),
    Column("unacked", number=True, leaves=4),
    Column("consumers", number=True),
    Column("in/s", number=True),
    Column("out/s", number=True, leaves=3),
    Column("acked/s", number=True, leaves=1),
)


async def read(address: Address, catalog: Catalog, module: str | None) -> list[QueueStats]:
    """All queues, or a module's, by name. Raises StatsUnavailable."""
    names = Names(address.tenant_id)
    stats = [read_stats(figures, names, catalog) for figures in await queue_figures(address, _TIMEOUT_S)]
    return sorted((queue for queue in stats if module in (None, queue.module)), key=lambda queue: queue.name)


def figures_json(stats: Sequence[QueueStats]) -> list[dict[str, Any]]:
    return [asdict(queue) for queue in stats]


def figures_table(stats: Sequence[QueueStats], tenant: str, all_queues: bool, console: Console) -> Table | str:
    """A line per queue. Queues without messages and consumers are counted, and shown only where all are asked for."""
    shown = [queue for queue in stats if all_queues or queue.depth or queue.consumers or queue.publish_rate]
    if not shown:
        return f"None of the {len(stats)} queues of {tenant} is in use. --all shows them."
    title = f"{tenant}: {len(shown)} of {len(stats)} queues" + ("" if all_queues else ", those in use")
    return fitted(title, _COLUMNS, (_row(queue, Names(tenant)) for queue in shown), console)


def _row(queue: QueueStats, names: Names) -> list[str]:
    name = escape(queue.name.removeprefix(f"{names.exchange}."))
    dead = queue.kind in ("dead-letter", "unrouted") and queue.depth > 0
    return [
        f"[red]{name}[/red]" if dead else name,
        *(f"{count:,}" for count in (queue.depth, queue.ready, queue.unacked, queue.consumers)),
        *(f"{rate:.1f}" for rate in (queue.publish_rate, queue.deliver_rate, queue.ack_rate)),
    ]


async def watch(
    address: Address, catalog: Catalog, module: str | None, all_queues: bool, interval: float, console: Console
) -> None:
    """Show the table anew every `interval` seconds, until it is interrupted: in its place on a terminal, one below the
    other elsewhere. Figures that can't be read are said to be old, never shown as zero."""
    shown: Table | str = "waiting for the first figures"
    with Live(
        Text("…" if console.is_terminal else ""), console=console, auto_refresh=False, vertical_overflow="visible"
    ) as live:
        while True:
            try:
                shown = figures_table(await read(address, catalog, module), address.tenant_id, all_queues, console)
                said = Text(f"{time.strftime('%H:%M:%S')}, every {interval:g} s; Ctrl-C ends it", style="dim")
            except StatsUnavailable as error:
                said = Text(f"{time.strftime('%H:%M:%S')}: these figures are old. {error}", style="red")
            if console.is_terminal:
                live.update(Group(shown, said), refresh=True)
            else:
                console.print(shown, said)
            await asyncio.sleep(interval)
