"""What the fleet's commands do, ask and print."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import typer
from rich.markup import escape

from kryonix.cli.confirmation import confirm
from kryonix.cli.console import err, out, print_json
from kryonix.cli.fleet import display
from kryonix.cli.fleet.progress import FleetProgress, RolloutProgress
from kryonix.cli.outage import Outage, explains_outages
from kryonix.cli.site import Site, open_site
from kryonix.engines.engine import Choice
from kryonix.engines.errors import UnknownTenant
from kryonix.errors import InvalidChoice
from kryonix.fleet.drift import Drift, find_drift, preview_tenants
from kryonix.fleet.members import fleet_members, strays
from kryonix.fleet.placement import choose_cell, load_of
from kryonix.fleet.rollout import RolloutRun, take_part
from kryonix.fleet.rollout_journal import RolloutDesk, open_desk
from kryonix.fleet.waves import Canary, FailureBudget, Waves, plan_waves, spread
from kryonix.registry.desired_states import DesiredState
from kryonix.registry.rollouts import Rollout, fetch_latest_rollout, session
from kryonix.tenants.lifecycle import TenantLifecycle
from kryonix.topology.tenants import parse_tenant

__all__ = ["RolloutAsked", "drift", "place", "rollout", "status"]

_FAILED, _UNREACHABLE, _DIFFERS = 1, 3, 4
_CANARY, _WAVE_SIZE, _CONCURRENCY, _BUDGET = "1", 10, 4, "0"


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutAsked:
    """What the command line says of a rollout; None is what it does not say."""

    canary: str | None
    wave_size: int | None
    concurrency: int | None
    failure_budget: str | None
    cell: str | None
    resume: bool
    dry_run: bool
    yes: bool


@explains_outages
def status(stack: str, engine: Choice, json_output: bool) -> None:
    """Print how the fleet stands."""
    site = open_site(stack, engine)
    states, stacks, found = site.states(), site.deployer.stacks(), site.read_cells()
    with session(site.registry_dsn) as connection:
        latest = fetch_latest_rollout(connection)
    view = display.FleetView(
        members=fleet_members(states, stacks, found.uses, site.catalog),
        strays=strays(states, stacks),
        cells=site.cells,
        loads=site.loads(states, found),
        rollout=latest,
    )
    if json_output:
        print_json(display.fleet_json(view))
    else:
        display.fleet_tables(view, out)
    if found.problems:
        _tell_outage(stack, engine)
        raise typer.Exit(_UNREACHABLE)


@explains_outages
def drift(
    stack: str,
    engine: Choice,
    tenants: tuple[str, ...],
    cell: str | None,
    concurrency: int,
    expect_no_changes: bool,
    json_output: bool,
) -> None:
    """Print what differs, tenant by tenant."""
    Outage(stack, engine).refuse_paused()
    site = open_site(stack, engine, concurrency)
    states = _named(take_part(site.states(cell)), tenants)
    found = _each(find_drift, site, states, concurrency, "drift")
    if json_output:
        print_json(display.drift_json(found))
    else:
        display.drift_table(found, out)
    if any(drift.problem for drift in found):
        _tell_outage(stack, engine)
        raise typer.Exit(_FAILED)
    if expect_no_changes and any(drift.differs for drift in found):
        raise typer.Exit(_DIFFERS)


@explains_outages
def rollout(asked: RolloutAsked, stack: str, engine: Choice, json_output: bool) -> None:
    """Roll out, or go on with a rollout, or show what one would do."""
    budget = FailureBudget.parse(asked.failure_budget or _BUDGET)
    canary = Canary.parse(asked.canary or _CANARY)
    _check(asked)
    Outage(stack, engine).refuse_paused()
    site = open_site(stack, engine, asked.concurrency or _CONCURRENCY)
    if asked.dry_run:
        _preview(site, _waves(site, asked, canary), asked, json_output)
        return
    with open_desk(site.registry_dsn) as desk:
        if asked.resume:
            begun = desk.resume(concurrency=asked.concurrency, failure_budget=asked.failure_budget)
            if begun.concurrency != (asked.concurrency or _CONCURRENCY):
                site = open_site(stack, engine, begun.concurrency)
        else:
            waves = _waves(site, asked, canary)
            _confirm(asked, waves)
            concurrency = asked.concurrency or _CONCURRENCY
            begun = desk.begin(waves, concurrency=concurrency, failure_budget=str(budget))
        ended = _run(site, desk, begun)
    if json_output:
        print_json(display.rollout_json(ended))
    else:
        display.rollout_tables(ended, out)
    if ended.status != "done":
        err.print(display.what_is_left(ended), soft_wrap=True)
        raise typer.Exit(_FAILED)


@explains_outages
def place(modules: tuple[str, ...], plan: str, stack: str, engine: Choice, json_output: bool) -> None:
    """Print the cell that a new tenant should go to, and why."""
    site = open_site(stack, engine)
    wanted = {"id": "new-tenant", "modules": list(modules), "plan": plan}
    load = load_of(parse_tenant(wanted, "kryonix fleet place", site.catalog), site.catalog)
    placement = choose_cell(load, site.cells, site.loads(site.states(), site.read_cells()))
    if json_output:
        print_json(display.placement_json(placement))
    else:
        display.placement_lines(placement, out)


def _tell_outage(stack: str, engine: Choice) -> None:
    if said := Outage(stack, engine).advice():
        err.print(f"[bold red]error:[/bold red] {escape(said)}", soft_wrap=True)


def _run(site: Site, desk: RolloutDesk, begun: Rollout) -> Rollout:
    """Run what is left of a rollout, and return it as it ended."""
    progress = RolloutProgress(err, begun)
    lifecycle = TenantLifecycle(site.registry_dsn, site.deployer, site.cells, site.catalog)
    run = RolloutRun(
        lifecycle,
        desk.journal(begun),
        concurrency=begun.concurrency,
        budget=FailureBudget.parse(begun.failure_budget),
        on_tenant=progress.take,
    )
    try:
        with progress.running():
            run.run(begun.tenants)
    except KeyboardInterrupt:
        err.print(f"rollout {begun.id} is cut off; `kryonix fleet rollout --resume` goes on with it")
        raise
    return desk.latest()


def _preview(site: Site, waves: Waves, asked: RolloutAsked, json_output: bool) -> None:
    states = {state.cliente_id: state for state in site.states()}
    ordered = [states[name] for wave in waves for name in wave]
    found = _each(preview_tenants, site, ordered, asked.concurrency or _CONCURRENCY, "dry run")
    if json_output:
        print_json(display.dry_run_json(waves, found))
    else:
        display.dry_run_table(waves, found, out)
    if any(drift.problem for drift in found):
        raise typer.Exit(_FAILED)


def _each(
    find: Callable[..., list[Drift]], site: Site, states: Sequence[DesiredState], concurrency: int, title: str
) -> list[Drift]:
    """What is found of each tenant, with progress."""
    progress = FleetProgress(err, title, len(states))

    def through(drift: Drift) -> None:
        progress.advance(drift.tenant, drift.problem)

    with progress.running():
        return find(site.deployer, site.cells, states, concurrency=concurrency, on_tenant=through)


def _waves(site: Site, asked: RolloutAsked, canary: Canary) -> Waves:
    tenants = spread(take_part(site.states(asked.cell)))
    return plan_waves(tenants, canary, asked.wave_size or _WAVE_SIZE)


def _check(asked: RolloutAsked) -> None:
    """Refuse what does not go together, before anything is asked of a service."""
    if not asked.resume:
        return
    given = {"--canary": asked.canary, "--wave-size": asked.wave_size, "--cell": asked.cell}
    if extra := [name for name, value in given.items() if value is not None]:
        raise InvalidChoice(f"{extra[0]} does not go with --resume: its waves are those it began with. Leave it out")
    if asked.dry_run:
        raise InvalidChoice("--dry-run does not go with --resume. `kryonix fleet status` shows what is left of it")


def _confirm(asked: RolloutAsked, waves: Waves) -> None:
    tenants, sizes = sum(map(len, waves)), ", ".join(str(len(wave)) for wave in waves)
    if not asked.yes:
        confirm("fleet rollout", lambda: f"roll out to {tenants} tenant(s), in waves of {sizes}?")


def _named(states: Sequence[DesiredState], tenants: tuple[str, ...]) -> list[DesiredState]:
    known = {state.cliente_id for state in states}
    for tenant in tenants:
        if tenant not in known:
            raise UnknownTenant(tenant)
    return [state for state in states if not tenants or state.cliente_id in tenants]
