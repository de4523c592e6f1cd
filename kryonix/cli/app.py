"""The `kryonix` command.

Exit status: 0 done, 1 failed while applying, 2 input that can't be accepted, 3 a service that can't be reached,
10 to 16 a change that a guardrail of `plan --against` holds back.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Optional

import typer
from rich.markup import escape

from kryonix.cli.console import err, out, print_json
from kryonix.cli.fleet import commands as fleet_commands
from kryonix.cli.messages import commands as messaging_commands
from kryonix.cli.options import EngineName, EngineOption, Json, Yes
from kryonix.cli.plan import PlanFormat, details_table, tenants_table, write_json
from kryonix.cli.signup import commands as signup_commands
from kryonix.cli.tenant import commands as tenant_commands
from kryonix.errors import InvalidChoice
from kryonix.review.acceptance import ACCEPTED_FILE
from kryonix.review.markdown import LONGEST_COMMENT
from kryonix.topology.capacity import expand_file
from kryonix.topology.catalog import Catalog, default_catalog, parse_catalog
from kryonix.topology.errors import nearest
from kryonix.topology.expansion import Topology
from kryonix.topology.tenants import tenants_schema

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Isolated RabbitMQ infrastructure for every Kryonix customer.",
)
app.add_typer(messaging_commands.app)
app.add_typer(tenant_commands.app)
app.add_typer(fleet_commands.app)
app.add_typer(signup_commands.app)


Stack = Annotated[str, typer.Option("--stack", "-s", help="The stack: Pulumi.STACK.yaml is its config.")]
ConfigFile = Annotated[Optional[Path], typer.Option(help="A config file to use instead of Pulumi.STACK.yaml.")]


@app.command()
def plan(
    tenants: Annotated[Path, typer.Option(help="The list of tenants.")] = Path("tenants.yaml"),
    tenant: Annotated[Optional[str], typer.Option(help="Only this tenant, with all its queues.")] = None,
    catalog: Annotated[Optional[Path], typer.Option(help="A catalog other than the one of the package.")] = None,
    against: Annotated[
        Optional[str], typer.Option(help="Show what differs from this: a git revision, or another list of tenants.")
    ] = None,
    format: Annotated[PlanFormat, typer.Option(help="How to show it; markdown is for --against.")] = PlanFormat.table,
    full: Annotated[
        Optional[Path], typer.Option(help="With --against: write the whole report, as Markdown, here.")
    ] = None,
    limit: Annotated[int, typer.Option(help="With --format markdown: the most bytes to print.")] = LONGEST_COMMENT,
    accepted: Annotated[Path, typer.Option(help="What this change says is meant.")] = Path(ACCEPTED_FILE),
    guard: Annotated[
        Optional[bool],
        typer.Option(help="Exit with 10 to 16 where a guardrail trips; on for a revision, off for a file."),
    ] = None,
    json_output: Json = False,
) -> None:
    """Show what the tenants make, offline: no broker, no database, no state, no credentials.

    With --against REVISION: 10 queue lost, 11 tenant removed, 12 plan does not fit, 13 permission widened, 14 secret in
    plain text, 15 limit lifted, 16 several of them.
    """
    gc.disable()  # a large fleet's expansion is a million small objects and no cycle among them
    shape = PlanFormat.json if json_output else format
    if against is not None:
        from kryonix.cli.review import Wanted, review_change

        asked = Wanted(tenants, catalog, tenant, against, shape, full, limit, accepted, guard)
        raise typer.Exit(review_change(asked))
    if shape is PlanFormat.markdown or full is not None:
        raise InvalidChoice("--format markdown and --full tell what differs: add --against REVISION, or a file")
    products = _catalog(catalog)
    topologies = _topologies(tenants, products)
    if tenant is not None:
        _check_known(tenant, topologies)
        topologies = _only(tenant, topologies)
    if shape is PlanFormat.json:
        write_json(topologies, None, sys.stdout)
        return
    out.print(tenants_table(topologies, products, out))
    if tenant is not None:
        out.print(details_table(topologies[0]))


@app.command()
def preview(
    stack: Stack = "dev",
    config_file: ConfigFile = None,
    engine: EngineOption = EngineName.auto,
    json_output: Json = False,
) -> None:
    """Show what `up` would do."""
    _stacks().run("preview", stack, config_file, engine.value, json_output, True)


@app.command()
def up(
    stack: Stack = "dev",
    config_file: ConfigFile = None,
    engine: EngineOption = EngineName.auto,
    yes: Yes = False,
    json_output: Json = False,
) -> None:
    """Create or change what the stack's config and tenants say."""
    _stacks().run("up", stack, config_file, engine.value, json_output, yes)


@app.command()
def refresh(
    stack: Stack = "dev",
    config_file: ConfigFile = None,
    engine: EngineOption = EngineName.auto,
    yes: Yes = False,
    json_output: Json = False,
) -> None:
    """Read the world into the state: what was changed by hand is found, and the next `up` repairs it."""
    _stacks().run("refresh", stack, config_file, engine.value, json_output, yes)


@app.command()
def destroy(
    stack: Stack = "dev",
    config_file: ConfigFile = None,
    engine: EngineOption = EngineName.auto,
    yes: Yes = False,
    json_output: Json = False,
) -> None:
    """Remove everything the stack has made."""
    _stacks().run("destroy", stack, config_file, engine.value, json_output, yes)


@app.command()
def outputs(
    stack: Stack = "dev",
    config_file: ConfigFile = None,
    engine: EngineOption = EngineName.auto,
    show_secrets: Annotated[bool, typer.Option("--show-secrets", help="Print passwords and URIs too.")] = False,
    json_output: Json = False,
) -> None:
    """Print the stack's outputs."""
    _stacks().outputs(stack, config_file, engine.value, show_secrets, json_output)


@app.command()
def export(stack: Stack = "dev", config_file: ConfigFile = None, engine: EngineOption = EngineName.auto) -> None:
    """Print the deployment, for `pulumi stack import`. Secrets stay encrypted."""
    _stacks().export(stack, config_file, engine.value)


@app.command()
def status(
    stack: Stack = "dev",
    config_file: ConfigFile = None,
    engine: EngineOption = EngineName.auto,
    json_output: Json = False,
) -> None:
    """Show the stack's tenants, what they use of their plans, and what the registry says of them."""
    _stacks().status(stack, config_file, engine.value, json_output)


@app.command()
def schema() -> None:
    """Print the JSON Schema of tenants.yaml, for editors."""
    print_json(tenants_schema(default_catalog()))


def main() -> None:
    """Run the command; an error of ours ends with its message and its exit status, never with a traceback."""
    try:
        app()
    except KeyboardInterrupt:
        err.print("interrupted; run the same command again to go on")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except Exception as error:
        status = getattr(error, "exit_status", None)  # every error of ours carries the status that it ends with
        if status is None:
            raise
        if "--json" in sys.argv:
            print_json({"error": str(error), "exit_status": status})
        err.print(f"[bold red]error:[/bold red] {escape(str(error))}", soft_wrap=True)
        sys.exit(status)


def _stacks() -> ModuleType:
    """What runs stacks. It brings Pulumi's SDK along, 0.5 s that the offline commands need not pay."""
    from kryonix.cli import stack as stacks

    return stacks


def _catalog(file: Path | None) -> Catalog:
    return default_catalog() if file is None else parse_catalog(_read(file), str(file))


def _topologies(file: Path, catalog: Catalog) -> list[Topology]:
    return expand_file(_read(file), str(file), catalog)


def _check_known(tenant: str, topologies: list[Topology]) -> None:
    known = [topology.tenant.id for topology in topologies]
    if tenant not in known:
        raise InvalidChoice(f"--tenant {tenant!r} is not in the list; {nearest(tenant, dict.fromkeys(known))}")


def _only(tenant: str, topologies: list[Topology]) -> list[Topology]:
    return [topology for topology in topologies if topology.tenant.id == tenant]


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidChoice(f"{str(file)!r} can't be read: {error.strerror}. Name a file that can") from error
