"""A redrive shown while it goes, and what it came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kryonix.cli.live import Live
from kryonix.cli.tables import Column, fitted
from kryonix.messaging.redrive.mover import Tally
from kryonix.topology.naming import Names

__all__ = ["RedriveDisplay", "left_behind", "tallies_json", "tallies_table"]

_COLUMNS = (
    Column("dead-letter queue", folds=20),
    Column("found", number=True),
    Column("put back", number=True),
    Column("without origin", number=True, leaves=2),
    Column("can't be copied", number=True),
    Column("dead again", number=True, leaves=1),
    Column("stopped because", folds=15),
)


class RedriveDisplay:
    """Takes tallies as they grow, and shows how many dead letters are through while it is `running`."""

    def __init__(self, console: Console) -> None:
        self._tallies: dict[str, Tally] = {}
        self._live = Live(console, "redrive", counted=True, every_s=5)
        self.running = self._live.running

    def take(self, tally: Tally) -> None:
        self._tallies[tally.queue] = tally
        moved = sum(each.moved for each in self._tallies.values())
        found = sum(each.found for each in self._tallies.values())
        line = f"redrive: {moved} of {found} dead letters put back, now {tally.queue}"
        self._live.update(tally.queue, line, completed=moved, total=max(found, moved))


def tallies_table(tallies: Sequence[Tally], tenant: str, dry_run: bool, console: Console) -> Table | str:
    """A line per queue that had anything in it; a sentence where none had."""
    shown = [tally for tally in tallies if tally.found or tally.moved or left_behind([tally])]
    moved = sum(tally.moved for tally in shown)
    found = sum(tally.found for tally in shown)
    if not shown:
        return f"No dead letters in the {len(tallies)} dead-letter queue(s) of {tenant} that were looked at."
    title = f"{found} dead letter(s); nothing was moved" if dry_run else f"{moved} dead letter(s) put back"
    return fitted(f"{tenant}: {title}", _COLUMNS, (_row(tally, Names(tenant)) for tally in shown), console)


def _row(tally: Tally, names: Names) -> list[str]:
    counts = (tally.found, tally.moved, tally.without_origin, tally.uncopyable, tally.again)
    queue = tally.queue.removeprefix(f"{names.exchange}.")
    return [escape(queue), *(f"{count:,}" for count in counts), escape(tally.refused or "")]


def tallies_json(tallies: Sequence[Tally], dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "moved": sum(tally.moved for tally in tallies),
        "queues": [asdict(tally) for tally in tallies],
    }


def left_behind(tallies: Sequence[Tally]) -> str | None:
    """What could not be put back and why, in words; None where there is nothing of the kind."""
    nowhere = sum(tally.without_origin for tally in tallies)
    uncopyable = sum(tally.uncopyable for tally in tallies)
    full = [f"{tally.queue} ({tally.refused})" for tally in tallies if tally.refused is not None]
    parts = []
    if nowhere:
        parts.append(f"{nowhere} dead letter(s) don't say where they came from, or it leads nowhere now; they stay")
    if uncopyable:
        reasons = dict.fromkeys(reason for tally in tallies for reason in tally.uncopyable_because)
        parts.append(f"{uncopyable} dead letter(s) can't be copied, and stay ({'; '.join(reasons)})")
    if full:
        parts.append(f"the broker took no more from {', '.join(full)}: let consumers catch up and run it again")
    return "; ".join(parts) or None
