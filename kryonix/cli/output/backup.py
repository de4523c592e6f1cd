"""Bundles, and what is in them, as tables and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from kryonix.backup.creation import Created
from kryonix.backup.manifest import Manifest, Member
from kryonix.backup.names import BundleName
from kryonix.cli.bundles import reference
from kryonix.cli.output.tables import Column, responsive_table
from kryonix.review.escaping import counted

_VERIFIED: Final = {
    "verified": Text("yes", "green"),
    "failed": Text("failed", "red"),
    "": Text("not yet"),
    None: Text("?"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A bundle in a store.

    `verified` is the result of its last verification: `verified`, `failed`, empty without one, None without a registry.
    """

    name: BundleName
    address: str
    bytes: int
    verified: str | None = None


_LISTED: Final[tuple[Column[Listed], ...]] = (
    Column("bundle", lambda listed: reference(listed.name), min_width=24),
    Column("time (UTC)", lambda listed: f"{listed.name.at:%Y-%m-%d %H:%M}"),
    Column("size", lambda listed: decimal(listed.bytes), number=True),
    Column("verified", lambda listed: _VERIFIED[listed.verified]),
)
_CREATED: Final[tuple[Column[Created], ...]] = (
    Column("bundle", lambda made: reference(made.name), min_width=24),
    Column("size", lambda made: decimal(made.stored.bytes) if made.stored else Text("failed", "red"), number=True),
    Column("seconds", lambda made: f"{made.seconds:.1f}", number=True),
)
_PRUNED: Final[tuple[Column[tuple[BundleName, int, Sequence[str]]], ...]] = (
    Column("bundle", lambda row: reference(row[0]), min_width=24),
    Column("size", lambda row: decimal(row[1]), number=True),
    Column("kept as", lambda row: ", ".join(row[2]) or Text("delete", "red"), min_width=16),
)
_MEMBERS: Final[tuple[Column[tuple[str, Member]], ...]] = (
    Column("member", itemgetter(0), min_width=14),
    Column("size", lambda row: decimal(row[1].bytes), number=True),
)


def listed_json(listed: Listed) -> dict[str, Any]:
    name = listed.name
    return {
        "bundle": reference(name),
        "kind": name.kind,
        "subject": name.subject,
        "stack": name.stack,
        "at": name.at,
        "bytes": listed.bytes,
        "verified": listed.verified or None,
        "address": listed.address,
    }


def list_report(bundles: Sequence[Listed], stack: str, store: str, console: Console) -> str | Table:
    if not bundles:
        return escape(f"There are no bundles of stack {stack} in {store}.")
    return responsive_table(f"{len(bundles)} bundle(s) of stack {stack} in {store}", _LISTED, bundles, console)


def created_json(made: Sequence[Created], store: str) -> list[dict[str, Any]]:
    return [
        {
            "bundle": reference(each.name),
            "kind": each.name.kind,
            "subject": each.name.subject,
            "at": each.name.at,
            "address": f"{store}/{each.name}" if each.stored else None,
            "bytes": each.stored.bytes if each.stored else None,
            "seconds": round(each.seconds, 3),
            "error": None if each.error is None else str(each.error),
        }
        for each in made
    ]


def created_report(made: Sequence[Created], store: str, console: Console) -> Iterator[str | Table]:
    """Yield the bundle's address, or a table of several."""
    if len(made) == 1 and (stored := made[0].stored):
        yield escape(f"{store}/{made[0].name}: {decimal(stored.bytes)}, {made[0].seconds:.1f} s")
        return
    failed = sum(each.stored is None for each in made)
    title = f"{len(made) - failed} bundle(s) in {store}" + (f", {failed} failed" if failed else "")
    yield responsive_table(title, _CREATED, made, console)


def manifest_json(manifest: Manifest, where: str) -> dict[str, Any]:
    return {"address": where, **manifest.model_dump(mode="json")}


def manifest_report(manifest: Manifest, where: str, console: Console) -> Iterator[str | Table]:
    """Yield what a bundle is of, made when and from what, then its members."""
    nodes = "1 node" if manifest.broker_nodes == 1 else f"{manifest.broker_nodes} nodes"
    fields = {
        "bundle": where,
        "of": f"tenant {manifest.subject}" if manifest.kind == "tenant" else f"the platform of stack {manifest.stack}",
        "stack": manifest.stack,
        "made": f"{manifest.created_at:%Y-%m-%d %H:%M:%S} UTC by kryonix {manifest.tool}",
        "broker": f"RabbitMQ {manifest.broker}, {nodes}",
        "registry": f"revision {manifest.registry}",
        "holds": ", ".join(of_kind(count, kind) for kind, count in manifest.counts.items() if count),
    }
    for name, text in fields.items():
        yield f"[bold]{name:<10}[/bold]{escape(text)}"
    yield responsive_table(f"format {manifest.format}", _MEMBERS, sorted(manifest.members.items()), console)


def of_kind(count: int, kind: str) -> str:
    """Return a count of objects whose kind the broker or a manifest names in the plural, such as `1 policy`."""
    noun = "policy" if kind == "policies" else kind.replace("_", " ").removesuffix("s")
    return counted(count, noun)


def prune_json(
    reasons: Mapping[BundleName, Sequence[str]], sizes: Mapping[BundleName, int], *, dry_run: bool
) -> dict[str, Any]:
    old = [name for name, why in reasons.items() if not why]
    return {
        "dry_run": dry_run,
        "deleted": sorted(map(reference, old)),
        "bytes": sum(sizes[name] for name in old),
        "kept": {reference(name): list(why) for name, why in sorted(reasons.items()) if why},
    }


def prune_report(
    reasons: Mapping[BundleName, Sequence[str]], sizes: Mapping[BundleName, int], console: Console
) -> Table:
    """Return a row per bundle: why it stays, or that it goes."""
    freed = sum(sizes[name] for name, why in reasons.items() if not why)
    count = sum(not why for why in reasons.values())
    rows = [(name, sizes[name], why) for name, why in sorted(reasons.items())]
    title = f"{count} of {len(rows)} bundles to delete, {decimal(freed)}"
    return responsive_table(title, _PRUNED, rows, console)
