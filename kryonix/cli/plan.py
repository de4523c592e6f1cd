"""The offline plan: what a list of tenants makes on a broker, without asking any."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, Final, TextIO

from rich.console import Console
from rich.table import Table

from kryonix.cli.tables import Column, fitted, modules_text
from kryonix.topology.capacity import use
from kryonix.topology.catalog import Catalog, size_text
from kryonix.topology.comparison import Change
from kryonix.topology.expansion import Topology
from kryonix.topology.objects import KINDS

__all__ = ["PlanFormat", "details_table", "tenants_table", "write_json"]


class PlanFormat(str, Enum):
    """How a plan is shown."""

    table = "table"
    markdown = "markdown"
    json = "json"


def write_json(
    topologies: Iterable[Topology],
    changes: Sequence[Change] | None,
    out: TextIO,
    review: Mapping[str, Any] | None = None,
) -> None:
    """Write the plan as JSON, a tenant at a time: a large fleet's plan is never held whole."""
    out.write('{"tenants": [')
    for index, topology in enumerate(topologies):
        out.write(",\n" if index else "\n")
        out.write(json.dumps(_tenant(topology), default=_plain))
    out.write("\n]")
    if changes is not None:
        out.write(f',\n"changes": {json.dumps([_change(change) for change in changes], default=_plain)}')
    if review is not None:
        out.write(f',\n"review": {json.dumps(review)}')
    out.write("}\n")


def _tenant(topology: Topology) -> dict[str, Any]:
    tenant = topology.tenant
    objects: dict[str, list[Any]] = {kind.collection: [] for kind in KINDS.values()}
    for kind, _, value in topology.objects():
        objects[kind.collection].append(value)
    return {
        "id": tenant.id,
        "plan": tenant.plan,
        "modules": list(tenant.modules),
        "status": tenant.status,
        "cell": tenant.cell,
        "vhost": topology.vhost,
        "user": topology.user,
        "permissions": topology.granted,
        "stats_user": {"name": topology.stats_user, "tags": topology.stats_tags},
        "counts": {collection: len(found) for collection, found in objects.items()},
        "max_bytes": use(topology).bytes,
        "limits": topology.limits.model_dump(),
        **objects,
    }


def _change(change: Change) -> dict[str, Any]:
    return {
        "tenant": change.tenant,
        "kind": change.kind,
        "action": change.action,
        "name": change.name,
        "loses_messages": change.loses_messages,
        "before": change.before,
        "after": change.after,
    }


def _plain(value: Any) -> Any:
    """Return a broker object as a mapping; not `asdict`, which copies: a fleet has a million objects."""
    return {name: getattr(value, name) for name in value.__slots__}


_COLUMNS: Final = (
    Column("tenant", folds=16),
    Column("plan"),
    Column("modules", folds=14),
    Column("queues", number=True),
    Column("exchanges", number=True, leaves=3),
    Column("bindings", number=True, leaves=2),
    Column("policies", number=True, leaves=1),
    Column("connections", number=True),
    Column("messages", number=True, leaves=4),
)


def tenants_table(topologies: Sequence[Topology], catalog: Catalog, console: Console) -> Table:
    """A line per tenant: what it takes of what its plan allows."""
    return fitted(
        f"{len(topologies)} tenant(s)", _COLUMNS, (_row(topology, catalog) for topology in topologies), console
    )


def _row(topology: Topology, catalog: Catalog) -> list[str]:
    used, limits = use(topology), topology.limits
    return [
        topology.tenant.id,
        topology.tenant.plan,
        modules_text(topology.tenant.modules, catalog),
        f"{used.queues} of {limits.max_queues}",
        f"{used.exchanges} of {limits.max_exchanges}",
        str(len(topology.bindings)),
        str(len(topology.policies)),
        "suspended" if topology.max_connections == 0 else str(topology.max_connections),
        size_text(used.bytes),
    ]


def details_table(topology: Topology) -> Table:
    """Every queue of one tenant, and what reaches it."""
    table = Table(title=f"{topology.vhost}: queues and what reaches them")
    table.add_column("queue")
    table.add_column("from exchange [routing key]")
    for queue in topology.queues:
        sources = [f"{b.source} [{b.routing_key}]" for b in topology.bindings if b.destination == queue.name]
        table.add_row(queue.name, "\n".join(sources).replace("[", r"\["))
    return table
