"""`kryonix fleet`: over all tenants that have a stack of their own. What stands behind is imported when one is run."""

from __future__ import annotations

from types import ModuleType
from typing import Annotated, Optional

import typer

from kryonix.cli.options import EngineName, EngineOption, Json, Platform, Yes

__all__ = ["app"]

app = typer.Typer(
    name="fleet", no_args_is_help=True, help="Status, drift, rollout and placement of all tenants with their own stack."
)

Cell = Annotated[Optional[str], typer.Option(help="Only the tenants of this cell.")]
Concurrency = Annotated[int, typer.Option(min=1, max=64, help="Stacks that are run at once.")]


@app.command()
def status(stack: Platform = "dev", engine: EngineOption = EngineName.auto, json_output: Json = False) -> None:
    """Show every tenant: what it is to be, whether its stack is there, what it uses of its plan, what is still to come.

    Exit status 3 where a cell's broker does not answer; the rest is shown all the same.
    """
    _runs().status(stack, engine.value, json_output)


@app.command()
def drift(
    stack: Platform = "dev",
    engine: EngineOption = EngineName.auto,
    tenant: Annotated[Optional[list[str]], typer.Option(help="Only this tenant; may be given several times.")] = None,
    cell: Cell = None,
    concurrency: Concurrency = 4,
    expect_no_changes: Annotated[bool, typer.Option(help="Exit with status 4 where anything differs.")] = False,
    json_output: Json = False,
) -> None:
    """Refresh the tenants' stacks and show what differs: what was changed by hand, and what is not rolled out yet.

    Nothing is mended: `kryonix fleet rollout` does that. Exit status 0, with --expect-no-changes 4 where anything
    differs, 1 where a tenant could not be examined.
    """
    _runs().drift(stack, engine.value, tuple(tenant or ()), cell, concurrency, expect_no_changes, json_output)


@app.command()
def rollout(
    stack: Platform = "dev",
    engine: EngineOption = EngineName.auto,
    canary: Annotated[
        Optional[str], typer.Option(metavar="N|ID,…", help="Who goes first: so many, or these. 1 where left out.")
    ] = None,
    wave_size: Annotated[
        Optional[int], typer.Option(min=1, help="Tenants of the first wave; the next has twice that, and so on. [10]")
    ] = None,
    concurrency: Annotated[Optional[int], typer.Option(min=1, max=64, help="Stacks that are run at once. [4]")] = None,
    failure_budget: Annotated[
        Optional[str], typer.Option(metavar="N|N%", help="Failures with which it still goes on. [0]")
    ] = None,
    cell: Cell = None,
    resume: Annotated[bool, typer.Option(help="Go on with the last rollout that did not end well.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Show the waves and what would change; changes nothing.")] = False,
    yes: Yes = False,
    json_output: Json = False,
) -> None:
    """Bring every tenant's stack to what its row and the program say: canaries first, then growing waves.

    Where a canary fails, or more tenants than the budget allows, nobody else is touched. How far it has come is kept in
    the registry: killed at any moment, --resume goes on. Exit status 1 where a tenant failed, 3 where another rollout
    is under way.
    """
    _runs().rollout(
        _runs().RolloutAsked(
            canary=canary,
            wave_size=wave_size,
            concurrency=concurrency,
            failure_budget=failure_budget,
            cell=cell,
            resume=resume,
            dry_run=dry_run,
            yes=yes,
        ),
        stack,
        engine.value,
        json_output,
    )


@app.command()
def place(
    modules: Annotated[str, typer.Option(metavar="MODULE,…", help="The modules of the new tenant.")],
    plan: Annotated[str, typer.Option(help="Its plan.")],
    stack: Platform = "dev",
    engine: EngineOption = EngineName.auto,
    json_output: Json = False,
) -> None:
    """Choose the cell for a new tenant: the one that is fullest the least with it. Changes nothing.

    The bounds are those of cells.yaml. Exit status 2 where no cell has room; it is said then what to add.
    """
    _runs().place(tuple(name.strip() for name in modules.split(",")), plan, stack, engine.value, json_output)


def _runs() -> ModuleType:
    from kryonix.cli.fleet import runs as fleet_runs

    return fleet_runs
