"""Messages as JSON, queue statistics and redrives as tables and progress."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console, Group
from rich.live import Live as LiveDisplay
from rich.table import Table
from rich.text import Text

from kryonix.cli.output.progress import Live
from kryonix.cli.output.tables import Column, responsive_table
from kryonix.messaging import QueueStats, StatsUnavailable
from kryonix.messaging.configuration import Address
from kryonix.messaging.redrive import Tally
from kryonix.messaging.stats import queue_figures, read_stats
from kryonix.topology.catalog import Catalog
from kryonix.topology.naming import Names

_TIMEOUT_S: Final = 10.0
_STATS_COLUMNS: Final[tuple[Column[QueueStats], ...]] = (
    Column("depth", lambda queue: queue.depth, number=True),
    Column("ready", lambda queue: queue.ready, number=True, drop_priority=2),
    Column("unacked", lambda queue: queue.unacked, number=True, drop_priority=4),
    Column("consumers", lambda queue: queue.consumers, number=True),
    Column("in/s", lambda queue: f"{queue.publish_rate:.1f}", number=True),
    Column("out/s", lambda queue: f"{queue.deliver_rate:.1f}", number=True, drop_priority=3),
    Column("acked/s", lambda queue: f"{queue.ack_rate:.1f}", number=True, drop_priority=1),
)
_TALLY_COLUMNS: Final[tuple[Column[Tally], ...]] = (
    Column("found", lambda tally: tally.found, number=True),
    Column("put back", lambda tally: tally.moved, number=True),
    Column("without origin", lambda tally: tally.without_origin, number=True, drop_priority=2),
    Column("can't be copied", lambda tally: tally.uncopyable, number=True),
    Column("dead again", lambda tally: tally.again, number=True, drop_priority=1),
    Column("stopped because", lambda tally: tally.refused or "", min_width=15),
)


def data_json(data: Any) -> dict[str, Any]:
    """Return a message's data as a field; bytes have a name of their own."""
    return {"data_base64": base64.b64encode(data).decode()} if isinstance(data, bytes) else {"data": data}


def headers_json(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return headers with values that JSON does not have as text."""
    return dict(json.loads(json.dumps(dict(headers), default=str)))


async def read_queues(address: Address, catalog: Catalog, module: str | None) -> list[QueueStats]:
    """Return the statistics of all queues, or of one module's, by name. Raises StatsUnavailable."""
    names = Names(address.tenant_id)
    stats = [
        read_stats(figures, names, catalog) for figures in await queue_figures(address, _TIMEOUT_S, address.trust())
    ]
    return sorted((queue for queue in stats if module in (None, queue.module)), key=lambda queue: queue.name)


def stats_table(stats: Sequence[QueueStats], tenant: str, all_queues: bool, console: Console) -> Table | str:
    """Return one row per queue. Idle queues are only counted, unless `all_queues` is set."""
    shown = [queue for queue in stats if all_queues or queue.depth or queue.consumers or queue.publish_rate]
    if not shown:
        return f"No queue in use ({len(stats)} queues of {tenant}, shown with --all)."
    title = f"{tenant}: {len(shown)} of {len(stats)} queues" + ("" if all_queues else " in use")

    def name(queue: QueueStats) -> Text:
        dead = queue.kind in ("dead-letter", "unrouted") and queue.depth > 0
        return Text(queue.name.removeprefix(f"{Names(tenant).exchange}."), "red" if dead else "")

    return responsive_table(title, (Column("queue", name, min_width=24), *_STATS_COLUMNS), shown, console)


async def watch_stats(
    address: Address, catalog: Catalog, module: str | None, all_queues: bool, interval: float, console: Console
) -> None:
    """Print the table every `interval` seconds until interrupted; a terminal shows only the latest.

    Statistics that can't be read are marked as old, never shown as zero.
    """
    shown: Table | str = ""
    with LiveDisplay(
        Text("…" if console.is_terminal else ""), console=console, auto_refresh=False, vertical_overflow="visible"
    ) as live:
        while True:
            now = time.strftime("%H:%M:%S")
            try:
                shown = stats_table(await read_queues(address, catalog, module), address.tenant_id, all_queues, console)
                note = Text(f"{now}, every {interval:g} s; stop with Ctrl-C", style="dim")
            except StatsUnavailable as error:
                state = "these statistics are old" if shown else "no statistics yet"
                note = Text(f"{now}: {state}. {error}", style="red")
            if console.is_terminal:
                live.update(Group(shown, note), refresh=True)
            else:
                console.print(*((shown, note) if shown else (note,)))
            await asyncio.sleep(interval)


class RedriveProgress(Live):
    """The number of dead letters put back."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, "redrive", counted=True, every_s=5)
        self._tallies: dict[str, Tally] = {}

    def on_tally(self, tally: Tally) -> None:
        """Show a queue's new tally."""
        self._tallies[tally.queue] = tally
        moved = sum(each.moved for each in self._tallies.values())
        found = sum(each.found for each in self._tallies.values())
        line = f"redrive: {moved} of {found} dead letters put back, now {tally.queue}"
        self.update(tally.queue, line, completed=moved, total=max(found, moved))


def tallies_table(tallies: Sequence[Tally], tenant: str, dry_run: bool, console: Console) -> Table | str:
    """Return one row per queue that had dead letters, or a sentence if none had."""
    shown = [tally for tally in tallies if tally.found or tally.moved or left_behind([tally])]
    if not shown:
        return f"No dead letters in {len(tallies)} dead-letter queue(s) of {tenant}."
    moved, found = sum(tally.moved for tally in shown), sum(tally.found for tally in shown)
    title = f"{found} dead letter(s); nothing was moved" if dry_run else f"{moved} dead letter(s) put back"
    queue: Column[Tally] = Column(
        "dead-letter queue", lambda tally: tally.queue.removeprefix(f"{Names(tenant).exchange}."), min_width=20
    )
    return responsive_table(f"{tenant}: {title}", (queue, *_TALLY_COLUMNS), shown, console)


def left_behind(tallies: Sequence[Tally]) -> str | None:
    """Return what was not put back and why, or None if nothing was left."""
    nowhere = sum(tally.without_origin for tally in tallies)
    uncopyable = sum(tally.uncopyable for tally in tallies)
    refused = [f"{tally.queue} ({tally.refused})" for tally in tallies if tally.refused is not None]
    parts = []
    if nowhere:
        parts.append(f"{nowhere} dead letter(s) were left: their origin is unknown, or it leads to no queue now")
    if uncopyable:
        reasons = dict.fromkeys(reason for tally in tallies for reason in tally.uncopyable_because)
        parts.append(f"{uncopyable} dead letter(s) were left: they can't be copied ({'; '.join(reasons)})")
    if refused:
        parts.append(
            f"the broker accepted no more messages from {', '.join(refused)}: let consumers catch up, then run it again"
        )
    return "; ".join(parts) or None
