"""A plan on the terminal and as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from kryonix.cli.output.tables import Column, modules_text, responsive_table
from kryonix.topology.capacity import use
from kryonix.topology.catalog import Catalog, size_text
from kryonix.topology.expansion import Topology
from kryonix.topology.naming import Names
from kryonix.topology.objects import KINDS, Binding


def write_json(topologies: Iterable[Topology], **more: Any) -> None:
    """Write the plan as JSON, one tenant at a time: a large fleet's plan does not fit in memory."""
    sys.stdout.write('{"tenants": [')
    for index, topology in enumerate(topologies):
        sys.stdout.write(",\n" if index else "\n")
        sys.stdout.write(json.dumps(_tenant(topology), default=slots))
    sys.stdout.write("\n]")
    for name, value in more.items():
        sys.stdout.write(f',\n"{name}": {json.dumps(value, default=slots)}')
    sys.stdout.write("}\n")


def _tenant(topology: Topology) -> dict[str, Any]:
    tenant = topology.tenant
    objects: dict[str, list[dict[str, Any]]] = {kind.collection: [] for kind in KINDS.values()}
    for kind, _, value in topology.objects():
        shown = slots(value)
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


def slots(value: Any) -> Any:
    """Return a broker object as a mapping; not `asdict`, which copies: a fleet has a million objects."""
    return {name: getattr(value, name) for name in value.__slots__}


def tenants_table(topologies: Sequence[Topology], catalog: Catalog, console: Console) -> Table:
    """Return one row per tenant: its use of the plan."""
    columns: tuple[Column[Topology], ...] = (
        Column("tenant", lambda each: each.tenant.id, min_width=16),
        Column("plan", lambda each: each.tenant.plan),
        Column("modules", lambda each: modules_text(each.tenant.modules, catalog), min_width=14),
        Column("queues", lambda each: f"{len(each.queues)} of {each.limits.max_queues}", number=True),
        Column(
            "exchanges",
            lambda each: f"{len(each.exchanges)} of {each.limits.max_exchanges}",
            number=True,
            drop_priority=3,
        ),
        Column("bindings", lambda each: str(len(each.bindings)), number=True, drop_priority=2),
        Column("policies", lambda each: str(len(each.policies)), number=True, drop_priority=1),
        Column("connections", lambda each: str(each.max_connections or "suspended"), number=True),
        Column("messages", lambda each: size_text(use(each).bytes), number=True, drop_priority=4),
    )
    return responsive_table(f"{len(topologies)} tenant(s)", columns, topologies, console)


def details_table(topology: Topology, console: Console) -> Table:
    """Return one row per binding of a tenant's queues."""
    prefix = f"{Names(topology.tenant.id).exchange}."
    rows: list[tuple[str, Binding]] = []
    for queue in topology.queues:
        name = queue.name.removeprefix(prefix)
        for binding in topology.bindings:
            if binding.destination == queue.name:
                rows.append((name, binding))
                name = ""
    columns: tuple[Column[tuple[str, Binding]], ...] = (
        Column("queue", lambda row: row[0], min_width=20),
        Column("exchange", lambda row: row[1].source.removeprefix(prefix), min_width=20),
        Column("routing key", lambda row: row[1].routing_key, min_width=20),
    )
    return responsive_table(f"{topology.vhost}: queues and their bindings", columns, rows, console)
