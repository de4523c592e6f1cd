"""`kryonix tenant`: one customer with a stack of its own. What stands behind is imported when one is run."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Annotated, Optional

import typer

from kryonix.cli.options import EngineName, EngineOption, Json, Platform, Yes

__all__ = ["app"]

app = typer.Typer(
    name="tenant", no_args_is_help=True, help="Create, change, suspend and remove one tenant with its own stack."
)

Id = Annotated[str, typer.Argument(metavar="ID", help="The tenant's id.")]
Modules = Annotated[Optional[str], typer.Option(metavar="MODULE,…", help="Its modules, all of them.")]
AllowDelete = Annotated[
    Optional[list[str]], typer.Option(help="A queue that may go with its messages; may be given several times.")
]


@app.command("list")
def list_tenants(
    with_removed: Annotated[bool, typer.Option("--all", help="Also those that have been removed.")] = False,
    stack: Platform = "dev",
    engine: EngineOption = EngineName.auto,
    json_output: Json = False,
) -> None:
    """Show every tenant with a stack of its own: what it is to be, and what is still to come. JSON has all of them."""
    _runs().list_tenants(stack, engine.value, with_removed, json_output)


@app.command()
def create(
    tenant: Id,
    modules: Annotated[str, typer.Option(metavar="MODULE,…", help="Its modules, all of them.")],
    plan: Annotated[str, typer.Option(help="Its plan.")],
    cell: Annotated[str, typer.Option(help="The cell that carries it: `kryonix fleet place` finds one.")] = "main",
    stack: Platform = "dev",
    engine: EngineOption = EngineName.auto,
    json_output: Json = False,
) -> None:
    """Make a tenant and print its credentials, this once. Cut off, the same command goes on."""
    asked = {"id": tenant, "modules": _names(modules), "plan": plan, "cell": cell}
    _runs().create(asked, stack, engine.value, json_output)


@app.command()
def change(
    tenant: Id,
    modules: Modules = None,
    plan: Annotated[Optional[str], typer.Option(help="Its plan.")] = None,
    allow_delete: AllowDelete = None,
    stack: Platform = "dev",
    engine: EngineOption = EngineName.auto,
    json_output: Json = False,
) -> None:
    """Give a tenant other modules, another plan, or both. A queue that holds messages stays unless it is named."""
    wanted = None if modules is None else _names(modules)
    _runs().change(tenant, wanted, plan, tuple(allow_delete or ()), stack, engine.value, json_output)


@app.command()
def suspend(
    tenant: Id, stack: Platform = "dev", engine: EngineOption = EngineName.auto, json_output: Json = False
) -> None:
    """Let no application of a tenant connect, and cut off those that are. Nothing is deleted."""
    _runs().simple("suspend", tenant, stack, engine.value, json_output)


@app.command()
def resume(
    tenant: Id, stack: Platform = "dev", engine: EngineOption = EngineName.auto, json_output: Json = False
) -> None:
    """Undo `suspend`, or `offboard` as long as the tenant has not been removed."""
    _runs().simple("resume", tenant, stack, engine.value, json_output)


@app.command()
def rotate(
    tenant: Id,
    overlap_hours: Annotated[
        float, typer.Option(min=0, max=87_600, help="How long the old credentials keep working; 0 ends them at once.")
    ] = 24,
    stack: Platform = "dev",
    engine: EngineOption = EngineName.auto,
    json_output: Json = False,
) -> None:
    """Make new credentials and print them, this once. `kryonix tenant settle` ends the old ones after the overlap."""
    _runs().rotate(tenant, overlap_hours, stack, engine.value, json_output)


@app.command()
def credentials(
    tenant: Id,
    output: Annotated[
        Optional[Path], typer.Option(help="Write them to this file, as JSON with mode 600, for the SDK's `outputs=`.")
    ] = None,
    stack: Platform = "dev",
    engine: EngineOption = EngineName.auto,
    json_output: Json = False,
) -> None:
    """Print what one tenant's applications log in with, and nothing of anybody else.

    It is read from the state alone: of the tenant's own stack, else of the platform's, which has made the tenants of
    its list.
    """
    _runs().credentials(tenant, output, stack, engine.value, json_output)


@app.command()
def offboard(
    tenant: Id,
    grace_days: Annotated[float, typer.Option(min=0, max=36_500, help="How long `resume` can undo it.")] = 30,
    stack: Platform = "dev",
    engine: EngineOption = EngineName.auto,
    json_output: Json = False,
) -> None:
    """Keep a final export, suspend the tenant, and say when it will be removed."""
    _runs().offboard(tenant, grace_days, stack, engine.value, json_output)


@app.command()
def remove(
    tenant: Id,
    force: Annotated[bool, typer.Option(help="Before the grace has passed, too: now, for good.")] = False,
    stack: Platform = "dev",
    engine: EngineOption = EngineName.auto,
    yes: Yes = False,
    json_output: Json = False,
) -> None:
    """Remove an offboarded tenant with its messages and credentials. Its rows stay as history."""
    _runs().remove(tenant, force, yes, stack, engine.value, json_output)


@app.command()
def converge(
    tenant: Id, stack: Platform = "dev", engine: EngineOption = EngineName.auto, json_output: Json = False
) -> None:
    """Bring a tenant's stack to what its row says, whatever came in between: a cut-off operation, a change by hand."""
    _runs().converge(tenant, stack, engine.value, json_output)


@app.command()
def exports(tenant: Id, stack: Platform = "dev", engine: EngineOption = EngineName.auto) -> None:
    """Print as JSON what was kept of a tenant each time that it was offboarded, the newest first."""
    _runs().exports(tenant, stack, engine.value)


@app.command()
def settle(stack: Platform = "dev", engine: EngineOption = EngineName.auto, json_output: Json = False) -> None:
    """Do for all tenants what is due: end old credentials, remove those whose grace has passed. For a timer."""
    _runs().settle(stack, engine.value, json_output)


def _names(modules: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in modules.split(",") if name.strip())


def _runs() -> ModuleType:
    from kryonix.cli.tenant import runs as tenant_runs

    return tenant_runs
