"""The `kryonix` command.

Exit status: 0 done, 1 failed while applying, 2 input that can't be accepted, 3 a service that can't be reached.
"""

from __future__ import annotations

import json
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.console import Console
from rich.markup import escape

from kryonix.lifecycle.engine import Engine, StackAddress, engine_for
from kryonix.lifecycle.errors import InvalidChoice, LifecycleError
from kryonix.local import LocalError, Summary
from kryonix.operations.plan import changes_table, details_table, tenants_table, write_json
from kryonix.operations.progress import Display, steps_table, summary_line
from kryonix.operations.status import status_json, status_table
from kryonix.registry import RegistryError
from kryonix.topology.capacity import expand_within_plans
from kryonix.topology.catalog import Catalog, default_catalog, parse_catalog
from kryonix.topology.comparison import compare
from kryonix.topology.errors import TopologyError, nearest
from kryonix.topology.expansion import Topology
from kryonix.topology.tenants import parse_tenants, tenants_schema

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Isolated RabbitMQ infrastructure for every Kryonix customer.",
)
out, err = Console(soft_wrap=False), Console(stderr=True)


class EngineName(str, Enum):
    """What runs the program."""

    auto = "auto"
    pulumi = "pulumi"
    local = "local"


Stack = Annotated[str, typer.Option("--stack", "-s", help="The stack: Pulumi.STACK.yaml is its config.")]
ConfigFile = Annotated[Optional[Path], typer.Option(help="A config file to use instead of Pulumi.STACK.yaml.")]
EngineOption = Annotated[EngineName, typer.Option("--engine", help="auto takes the Pulumi CLI where it is on PATH.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@app.command()
def plan(
    tenants: Annotated[Path, typer.Option(help="The list of tenants.")] = Path("tenants.yaml"),
    tenant: Annotated[Optional[str], typer.Option(help="Only this tenant, with all its queues.")] = None,
    catalog: Annotated[Optional[Path], typer.Option(help="A catalog other than the one of the package.")] = None,
    against: Annotated[Optional[Path], typer.Option(help="Show what differs from this other list of tenants.")] = None,
    json_output: Json = False,
) -> None:
    """Show what the tenants make, offline: no broker, no database, no state, no credentials."""
    products = _catalog(catalog)
    topologies = _selected(_topologies(tenants, products), tenant)
    changes = None
    if against is not None:
        before = [t for t in _topologies(against, products) if tenant in (None, t.tenant.id)]
        changes = list(compare(before, topologies))
    if json_output:
        write_json(topologies, changes, sys.stdout)
        return
    if changes is not None:
        changes_table(changes, out)
        return
    out.print(tenants_table(topologies))
    if tenant is not None:
        out.print(details_table(topologies[0]))


@app.command()
def preview(
    stack: Stack = "dev", config_file: ConfigFile = None, engine: EngineOption = EngineName.auto, json_output: Json = False
) -> None:
    """Show what `up` would do."""
    _run("preview", _address(stack, config_file), engine, json_output, yes=True)


@app.command()
def up(
    stack: Stack = "dev",
    config_file: ConfigFile = None,
    engine: EngineOption = EngineName.auto,
    yes: Yes = False,
    json_output: Json = False,
) -> None:
    """Create or change what the stack's config and tenants say."""
    _run("up", _address(stack, config_file), engine, json_output, yes)


@app.command()
def refresh(
    stack: Stack = "dev",
    config_file: ConfigFile = None,
    engine: EngineOption = EngineName.auto,
    yes: Yes = False,
    json_output: Json = False,
) -> None:
    """Read the world into the state: what was changed by hand is found, and the next `up` repairs it."""
    _run("refresh", _address(stack, config_file), engine, json_output, yes)


@app.command()
def destroy(
    stack: Stack = "dev",
    config_file: ConfigFile = None,
    engine: EngineOption = EngineName.auto,
    yes: Yes = False,
    json_output: Json = False,
) -> None:
    """Remove everything the stack has made."""
    _run("destroy", _address(stack, config_file), engine, json_output, yes)


@app.command()
def outputs(
    stack: Stack = "dev",
    config_file: ConfigFile = None,
    engine: EngineOption = EngineName.auto,
    show_secrets: Annotated[bool, typer.Option("--show-secrets", help="Print passwords and URIs too.")] = False,
    json_output: Json = False,
) -> None:
    """Print the stack's outputs."""
    found = _engine(_address(stack, config_file), engine).outputs(show_secrets)
    if json_output:
        _print_json(found)
        return
    for name, value in found.items():
        text = value if isinstance(value, str) else json.dumps(value, indent=2)
        out.print(f"[bold]{name}[/bold] {escape(text)}", soft_wrap=True)


@app.command()
def export(stack: Stack = "dev", config_file: ConfigFile = None, engine: EngineOption = EngineName.auto) -> None:
    """Print the deployment, for `pulumi stack import`. Secrets stay encrypted."""
    _print_json(_engine(_address(stack, config_file), engine).export())


@app.command()
def status(
    stack: Stack = "dev", config_file: ConfigFile = None, engine: EngineOption = EngineName.auto, json_output: Json = False
) -> None:
    """Show the stack's tenants, what they use of their plans, and what the registry says of them."""
    found = _engine(_address(stack, config_file), engine).outputs(show_secrets=True)
    if not found:
        raise InvalidChoice(f"the stack {stack!r} has no outputs: nothing is deployed. Run `kryonix up --stack {stack}`")
    if json_output:
        _print_json(status_json(found))
    else:
        status_table(found, out)


@app.command()
def schema() -> None:
    """Print the JSON Schema of tenants.yaml, for editors."""
    _print_json(tenants_schema(default_catalog()))


def main() -> None:
    """Run the command; an error of ours ends with its message and its exit status, never with a traceback."""
    try:
        app()
    except (TopologyError, LifecycleError, LocalError, RegistryError) as error:
        if "--json" in sys.argv:
            _print_json({"error": str(error), "exit_status": error.exit_status})
        err.print(f"[bold red]error:[/bold red] {escape(str(error))}", soft_wrap=True)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        err.print("interrupted; run the same command again to go on")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)


def _run(operation: str, address: StackAddress, engine: EngineName, json_output: bool, yes: bool) -> None:
    if not yes and not json_output:
        yes = _confirmed(operation, address, engine)
    if not yes:
        raise InvalidChoice(f"`{operation}` was not confirmed. Add --yes to run it without asking")
    display = Display(err, f"{operation} {address.stack}")
    runner = _engine(address, engine, display)
    with display.running():
        summary: Summary = getattr(runner, operation)()
    if json_output:
        _print_json(_summary_json(summary))
        return
    if operation in ("preview", "refresh") and (table := steps_table(summary)) is not None:
        out.print(table)
    out.print(summary_line(summary))


def _confirmed(operation: str, address: StackAddress, engine: EngineName) -> bool:
    """Ask, on a terminal only; before `up`, with what it would do."""
    if not sys.stdin.isatty():
        return False
    if operation == "up":
        summary = _engine(address, engine).preview()
        if (table := steps_table(summary)) is not None:
            out.print(table)
        out.print(summary_line(summary))
    return typer.confirm(f"{operation} the stack {address.stack!r}?")


def _engine(address: StackAddress, engine: EngineName, display: Display | None = None) -> Engine:
    return engine_for(engine.value, address, display.take if display else lambda event: None)


def _address(stack: str, config_file: Path | None) -> StackAddress:
    project = Path.cwd()
    if not (project / "Pulumi.yaml").is_file():
        raise InvalidChoice(f"{project} has no Pulumi.yaml. Run this in the project's folder")
    return StackAddress(project=project, stack=stack, config_file=config_file)


def _summary_json(summary: Summary) -> dict[str, Any]:
    steps = [
        {"op": step.op, "urn": step.urn, "type": step.type, "name": step.name, "changed": list(step.changed)}
        for step in summary.steps
        if step.op != "same"
    ]
    return {"changes": summary.changes, "steps": steps, "seconds": round(summary.seconds, 3)}


def _catalog(file: Path | None) -> Catalog:
    return default_catalog() if file is None else parse_catalog(_read(file), str(file))


def _topologies(file: Path, catalog: Catalog) -> list[Topology]:
    return expand_within_plans(parse_tenants(_read(file), str(file), catalog), catalog, str(file))


def _selected(topologies: list[Topology], tenant: str | None) -> list[Topology]:
    if tenant is None:
        return topologies
    selected = [topology for topology in topologies if topology.tenant.id == tenant]
    if not selected:
        known = [topology.tenant.id for topology in topologies]
        raise InvalidChoice(f"--tenant {tenant!r} is not in the list; {nearest(tenant, known)}")
    return selected


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidChoice(f"{str(file)!r} can't be read: {error.strerror}. Name a file that can") from error


def _print_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")
