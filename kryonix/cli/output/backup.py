"""Bundles, and what is in them, as tables and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from kryonix.backup.manifest import Manifest, Member
from kryonix.backup.names import SUFFIX, BundleName
from kryonix.cli.output.tables import Column, responsive_table

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
    Column("made (UTC)", lambda listed: f"{listed.name.at:%Y-%m-%d %H:%M}"),
    Column("size", lambda listed: decimal(listed.bytes), number=True),
    Column("verified", lambda listed: _VERIFIED[listed.verified]),
)
_MEMBERS: Final[tuple[Column[tuple[str, Member]], ...]] = (
    Column("member", itemgetter(0), min_width=14),
    Column("size", lambda row: decimal(row[1].bytes), number=True),
)


def reference(name: BundleName) -> str:
    """Return the name by which `show`, `verify` and `restore` take a bundle of the stack, `tenants/acme/TIME`."""
    return str(name).removeprefix(f"{name.stack}/").removesuffix(SUFFIX)


def listed_json(listed: Listed) -> dict[str, Any]:
    name = listed.name
    return {
        "bundle": reference(name),
        "kind": name.kind,
        "subject": name.subject,
        "stack": name.stack,
        "created_at": name.at,
        "bytes": listed.bytes,
        "verified": listed.verified or None,
        "address": listed.address,
    }


def list_report(bundles: Sequence[Listed], stack: str, store: str, console: Console) -> str | Table:
    if not bundles:
        return escape(f"There are no bundles of stack {stack} in {store}.")
    return responsive_table(f"{len(bundles)} bundle(s) of stack {stack} in {store}", _LISTED, bundles, console)


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
        "holds": ", ".join(f"{count:,} {noun}" for noun, count in manifest.counts.items() if count),
    }
    for name, text in fields.items():
        yield f"[bold]{name:<10}[/bold]{escape(text)}"
    yield responsive_table(f"format {manifest.format}", _MEMBERS, sorted(manifest.members.items()), console)
