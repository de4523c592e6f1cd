"""`kryonix plan` and `kryonix schema`: what a list of tenants creates, without connecting to anything."""

from __future__ import annotations

import gc
from dataclasses import replace

import typer

from kryonix.cli.options import Json, command, load_catalog, read_bytes
from kryonix.cli.output.console import out, print_json
from kryonix.cli.output.plan import details_table, tenants_table, write_json
from kryonix.cli.review import PlanOptions, review_change
from kryonix.errors import InvalidChoice
from kryonix.topology.capacity import expand_file
from kryonix.topology.catalog import default_catalog
from kryonix.topology.errors import nearest
from kryonix.topology.tenants import tenants_schema

app = typer.Typer()


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
        raise typer.Exit(review_change(options, options.against))
    if options.format == "markdown" or options.full is not None:
        raise InvalidChoice("--format markdown and --full need --against REVISION, or --against FILE")
    catalog = load_catalog(options.catalog)
    if options.tenants == PlanOptions().tenants and not options.tenants.exists():
        from kryonix.cli.site import project_folder  # imports the engines

        project_folder(", or give --tenants FILE")
    topologies = expand_file(read_bytes(options.tenants), str(options.tenants), catalog)
    if options.tenant is not None:
        known = [topology.tenant.id for topology in topologies]
        topologies = [topology for topology in topologies if topology.tenant.id == options.tenant]
        if not topologies:
            hint = nearest(options.tenant, dict.fromkeys(known))
            raise InvalidChoice(f"--tenant {options.tenant!r} is not in {str(options.tenants)!r}; {hint}")
    if options.format == "json":
        write_json(topologies)
        return
    out.print(tenants_table(topologies, catalog, out))
    if options.tenant is not None:
        out.print(details_table(topologies[0], out))


@command(app)
def schema() -> None:
    """Print the JSON Schema of tenants.yaml, for editors."""
    print_json(tenants_schema(default_catalog()))
