"""A plan on the terminal and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TextIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kryonix.cli.output.tables import Column, modules_text, responsive_table
from kryonix.review.differences import Change
from kryonix.topology.capacity import use
from kryonix.topology.catalog import Catalog, size_text
from kryonix.topology.expansion import Topology
from kryonix.topology.naming import Names
from kryonix.topology.objects import KINDS


def write_json(
    topologies: Iterable[Topology],
    changes: Sequence[Change] | None,
    out: TextIO,
    review: Mapping[str, Any] | None = None,
) -> None:
    """Write the plan as JSON, one tenant at a time: a large fleet's plan does not fit in memory."""
    out.write('{"tenants": [')
    for index, topology in enumerate(topologies):
        out.write(",\n" if index else "\n")
        out.write(json.dumps(_tenant(topology), default=_plain))
    out.write("\n]")
    if changes is not None:
        shown = [{**_plain(change), "loses_messages": change.loses_messages} for change in changes]
        out.write(f',\n"changes": {json.dumps(shown, default=_plain)}')
    if review is not None:
        out.write(f',\n"review": {json.dumps(review)}')
    out.write("}\n")


def _tenant(topology: Topology) -> dict[str, Any]:
    tenant = topology.tenant
    objects: dict[str, list[dict[str, Any]]] = {kind.collection: [] for kind in KINDS.values()}
    for kind, _, value in topology.objects():
        shown = _plain(value)
        shown.pop("module", None)  # the broker does not have it
        objects[kind.collection].append(shown)
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


def _plain(value: Any) -> Any:
    """Return a broker object as a mapping; not `asdict`, which copies: a fleet has a million objects."""
    return {name: getattr(value, name) for name in value.__slots__}


_COLUMNS: Final = (
    Column("tenant", min_width=16),
    Column("plan"),
    Column("modules", min_width=14),
    Column("queues", number=True),
    Column("exchanges", number=True, drop_priority=3),
    Column("bindings", number=True, drop_priority=2),
    Column("policies", number=True, drop_priority=1),
    Column("connections", number=True),
    Column("messages", number=True, drop_priority=4),
)


def tenants_table(topologies: Sequence[Topology], catalog: Catalog, console: Console) -> Table:
    """Return one row per tenant: its use of the plan."""
    rows = []
    for topology in topologies:
        used, limits = use(topology), topology.limits
        rows.append(
            [
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
        )
    return responsive_table(f"{len(topologies)} tenant(s)", _COLUMNS, rows, console)


def details_table(topology: Topology, console: Console) -> Table:
    """Return one row per binding of a tenant's queues."""
    prefix = f"{Names(topology.tenant.id).exchange}."
    rows: list[list[str]] = []
    for queue in topology.queues:
        name = escape(queue.name.removeprefix(prefix))
        for binding in topology.bindings:
            if binding.destination == queue.name:
                rows.append([name, escape(binding.source.removeprefix(prefix)), escape(binding.routing_key)])
                name = ""
    columns = (Column("queue", min_width=20), Column("exchange", min_width=20), Column("routing key", min_width=20))
    return responsive_table(f"{topology.vhost}: queues and their bindings", columns, rows, console)
