"""`kryonix plan` and `kryonix schema`: what a list of tenants creates, without connecting to anything."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TextIO

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kryonix.cli.options import CatalogFile, Json, command, load_catalog, read_bytes
from kryonix.cli.output.console import out, print_json
from kryonix.cli.output.tables import Column, modules_text, responsive_table
from kryonix.errors import InvalidChoice
from kryonix.review.differences import Change
from kryonix.review.guardrails import ACCEPTED_FILE
from kryonix.review.report import LONGEST_COMMENT
from kryonix.topology.capacity import expand_file, use
from kryonix.topology.catalog import Catalog, default_catalog, size_text
from kryonix.topology.errors import nearest
from kryonix.topology.expansion import Topology
from kryonix.topology.naming import Names
from kryonix.topology.objects import KINDS
from kryonix.topology.tenants import tenants_schema

app = typer.Typer()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """The options of `kryonix plan`."""

    tenants: Annotated[Path, typer.Option(help="File with the list of tenants.")] = Path("tenants.yaml")
    tenant: Annotated[str | None, typer.Option(help="Only this tenant, with all its queues.")] = None
    catalog: CatalogFile = None
    against: Annotated[
        str | None, typer.Option(help="Show the differences from a git revision, or from another list of tenants.")
    ] = None
    format: Annotated[
        Literal["table", "markdown", "json"],
        typer.Option(metavar="FORMAT", help="table or json; with --against also markdown."),
    ] = "table"
    full: Annotated[Path | None, typer.Option(help="With --against: write the whole report here, as Markdown.")] = None
    limit: Annotated[int, typer.Option(help="With --format markdown: maximum bytes to print.")] = LONGEST_COMMENT
    accepted: Annotated[Path, typer.Option(help="File of accepted changes.")] = Path(ACCEPTED_FILE)
    guard: Annotated[
        bool | None,
        typer.Option(
            "--guard/--no-guard",
            help="Exit with 10 to 16 if a guardrail trips; default: on for a revision, off for a file.",
        ),
    ] = None


@command(app)
def plan(options: PlanOptions, json_output: Json = False) -> None:
    """Show what each tenant gets, without connecting to anything.

    Exit status with --against REVISION: 10 queue lost, 11 tenant removed, 12 plan does not fit, 13 permission widened,
    14 secret in plain text, 15 limit lifted, 16 several of these.
    """
    gc.disable()  # a large fleet's expansion is a million small objects and no cycle among them
    if json_output:
        options = replace(options, format="json")
    if options.against is not None:
        from kryonix.cli.review import review_change

        raise typer.Exit(review_change(options, options.against))
    if options.format == "markdown" or options.full is not None:
        raise InvalidChoice("--format markdown and --full need --against REVISION, or --against FILE")
    catalog = load_catalog(options.catalog)
    topologies = expand_file(read_bytes(options.tenants), str(options.tenants), catalog)
    if options.tenant is not None:
        known = [topology.tenant.id for topology in topologies]
        topologies = [topology for topology in topologies if topology.tenant.id == options.tenant]
        if not topologies:
            hint = nearest(options.tenant, dict.fromkeys(known))
            raise InvalidChoice(f"--tenant {options.tenant!r} is not in {str(options.tenants)!r}; {hint}")
    if options.format == "json":
        write_json(topologies, None, sys.stdout)
        return
    out.print(tenants_table(topologies, catalog, out))
    if options.tenant is not None:
        out.print(details_table(topologies[0], out))


@command(app)
def schema() -> None:
    """Print the JSON Schema of tenants.yaml, for editors."""
    print_json(tenants_schema(default_catalog()))


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
