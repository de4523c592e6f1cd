"""`kryonix fleet`: status, drift, rollout and placement of all tenants with their own stack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from kryonix.cli.groups import group
from kryonix.cli.options import Json, PlatformOptions, Yes, parse_names
from kryonix.cli.output import fleet as output
from kryonix.cli.output.console import confirm, err, out, print_result
from kryonix.cli.output.fleet import wave_name
from kryonix.cli.output.progress import CountedProgress
from kryonix.cli.site import Outage, Site, open_site, platform_command, print_outage
from kryonix.errors import InvalidChoice
from kryonix.fleet.drift import Drift, find_drift
from kryonix.fleet.members import fleet_members, strays
from kryonix.fleet.placement import choose_cell, load_of
from kryonix.fleet.rollout import RolloutDesk, RolloutRun, open_desk, take_part
from kryonix.fleet.waves import Canary, FailureBudget, Plan, plan_waves, spread
from kryonix.registry.desired_states import DesiredState
from kryonix.registry.rollouts import ENDED, Rollout, RolloutTenant, fetch_latest_rollout, session
from kryonix.tenants.errors import UnknownTenant
from kryonix.topology.errors import InvalidInput
from kryonix.topology.tenants import parse_tenant

_FAILED, _UNREACHABLE, _DIFFERS = 1, 3, 4
_CANARY, _WAVE_SIZE, _CONCURRENCY, _BUDGET = "1", 10, 4, "0"

CellFilter = Annotated[str | None, typer.Option(help="Only the tenants of this cell.")]

app = group("fleet", "Status, drift, rollout and placement of all tenants with their own stack.")


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutOptions:
    """The options of a rollout; None for an option not given."""

    canary: Annotated[
        str | None, typer.Option(metavar="N|ID,…", help="Canaries: a number, or tenant IDs. Default: 1.")
    ] = None
    wave_size: Annotated[
        int | None, typer.Option(min=1, help="Size of the first wave; each wave is twice the last. Default: 10.")
    ] = None
    concurrency: Annotated[int | None, typer.Option(min=1, max=64, help="Concurrent stacks. Default: 4.")] = None
    failure_budget: Annotated[
        str | None, typer.Option(metavar="N|N%", help="Failures allowed before the rollout stops. Default: 0.")
    ] = None
    cell: CellFilter = None
    every: Annotated[
        bool,
        typer.Option(
            "--all", help="Run every stack, and read all of it first; else only those with something to change."
        ),
    ] = False
    resume: Annotated[bool, typer.Option("--resume", help="Continue the last unfinished rollout.")] = False
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the waves and the changes; change nothing.")] = False
    yes: Yes = False


@platform_command(app)
def status(platform: PlatformOptions, json_output: Json = False) -> None:
    """Show every tenant: what manages it, desired state, stack, use of its plan, and pending changes.

    Exit status 3 if a cell's broker does not answer; the rest is still shown.
    """
    site = open_site(platform)
    stacks, found = site.engine.stacks(), site.read_cells()
    states, managed_by = site.tenants(stacks)
    with session(site.registry_dsn) as connection:
        latest = fetch_latest_rollout(connection)
    view = output.FleetView(
        members=fleet_members(states, stacks, found.uses, site.catalog, managed_by),
        strays=strays(states, stacks),
        cells=site.cells,
        loads=site.loads([state for state in states if state.cliente_id not in managed_by], found),
        rollout=latest,
    )
    print_result(output.fleet_json(view), output.fleet_report(view, out), json_output)
    if found.problems:
        print_outage(platform)
        raise typer.Exit(_UNREACHABLE)


@platform_command(app)
def drift(
    platform: PlatformOptions,
    tenant: Annotated[list[str] | None, typer.Option(metavar="ID", help="Only this tenant; repeatable.")] = None,
    cell: CellFilter = None,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Concurrent stacks.")] = _CONCURRENCY,
    expect_no_changes: Annotated[
        bool, typer.Option("--expect-no-changes", help="Exit with status 4 if anything differs.")
    ] = False,
    json_output: Json = False,
) -> None:
    """Refresh the tenants' stacks and show manual changes and changes not rolled out yet.

    Repairs nothing; the next `kryonix fleet rollout` runs the tenants that differ. Exit status: 0, 1 if a tenant could
    not be checked, or 4 with --expect-no-changes if anything differs.
    """
    Outage(platform).refuse_paused()
    site = open_site(platform, concurrency, keep=True)
    states = _included(site.states(cell), tenant)
    found = _examine(site, states, concurrency, "drift")
    print_result(output.drift_json(found), output.drift_text(found, out), json_output)
    if any(drift.problem for drift in found):
        print_outage(platform)
        raise typer.Exit(_FAILED)
    if expect_no_changes and any(drift.differs for drift in found):
        raise typer.Exit(_DIFFERS)


@platform_command(app)
def rollout(options: RolloutOptions, platform: PlatformOptions, json_output: Json = False) -> None:
    """Apply the desired state of every tenant: canaries first, then growing waves.

    Leaves out the tenants whose stacks were applied from exactly what is there now, unless --canary names them.
    Stops if a canary fails, or if more tenants fail than the budget allows. Progress is stored in the registry: if
    interrupted at any point, continue with --resume. Exit status 1 if a tenant failed, 3 if another rollout is running.
    """
    budget, canary = FailureBudget.parse(options.failure_budget or _BUDGET), Canary.parse(options.canary or _CANARY)
    if options.resume:
        waves_options = {
            "--canary": options.canary,
            "--wave-size": options.wave_size,
            "--cell": options.cell,
            "--all": options.every or None,
        }
        if given := [name for name, value in waves_options.items() if value is not None]:
            raise InvalidChoice(f"{given[0]} can't be combined with --resume, which keeps the waves. Omit it")
        if options.dry_run:
            remedy = "`kryonix fleet status` shows what is pending"
            raise InvalidChoice(f"--dry-run can't be combined with --resume. {remedy}")
    Outage(platform).refuse_paused()
    concurrency = options.concurrency or _CONCURRENCY
    site = open_site(platform, concurrency, keep=True)
    if options.dry_run:
        _dry_run(site, _plan(site, options, canary), concurrency, json_output)
        return
    with open_desk(site.registry_dsn) as desk:
        if options.resume:
            running = desk.resume(concurrency=options.concurrency, failure_budget=options.failure_budget)
            if running.concurrency != concurrency:
                site = open_site(platform, running.concurrency, keep=True)
        else:
            plan = _plan(site, options, canary)
            if not options.yes and (tenants := sum(map(len, plan.waves))):
                sizes = ", ".join(str(len(wave)) for wave in plan.waves)
                question = f"Roll out to {tenants} tenant(s) in waves of {sizes}?"
                confirm("fleet rollout", f"{question} {len(plan.unchanged)} have nothing to change.")
                plan = _plan(site, options, canary)  # the answer may have taken a while
            running = desk.begin(
                plan.waves, unchanged=plan.unchanged, concurrency=concurrency, failure_budget=str(budget)
            )
        ended = _run(site, desk, running, thorough=options.every or options.resume)
    print_result(output.rollout_json(ended), output.rollout_table(ended, out), json_output)
    if ended.status != "done":
        err.print(output.failure_text(ended), soft_wrap=True)
        raise typer.Exit(_FAILED)


@platform_command(app)
def place(
    platform: PlatformOptions,
    modules: Annotated[str, typer.Option(metavar="MODULE,…", help="Modules of the new tenant.")],
    plan: Annotated[str, typer.Option(help="Plan of the new tenant.")],
    json_output: Json = False,
) -> None:
    """Suggest the cell with the most free capacity for a new tenant. Changes nothing.

    Limits come from cells.yaml. Exit status 2 if no cell has room; the message names what to raise.
    """
    site = open_site(platform)
    wanted = {"id": "new-tenant", "modules": list(parse_names(modules)), "plan": plan}
    try:
        tenant = parse_tenant(wanted, "", site.catalog)
    except InvalidInput as error:
        problems = [f"--{problem.field.partition('.')[0]}: {problem.message}" for problem in error.problems]
        raise InvalidChoice("\n".join(problems)) from None
    load = load_of(tenant, site.catalog)
    placement = choose_cell(load, site.cells, site.loads(site.states(), site.read_cells()))
    print_result(output.placement_json(placement), output.placement_text(placement), json_output)


def _included(states: list[DesiredState], names: Sequence[str] | None = None) -> list[DesiredState]:
    """Return the tenants, or those of these names, that a rollout includes; name the others on standard error."""
    for name in names or ():
        if name not in {state.cliente_id for state in states if state.stage != "removed"}:
            raise UnknownTenant(name)
    states = [state for state in states if not names or state.cliente_id in names]
    left = [f"{each.cliente_id} ({each.stage})" for each in states if each.stage in ("offboarding", "removing")]
    if left:
        err.print(f"skipped: {', '.join(left)}; fleet commands leave these tenants as they are", soft_wrap=True)
    return take_part(states)


def _plan(site: Site, options: RolloutOptions, canary: Canary) -> Plan:
    states = _included(site.states(options.cell))
    found = {} if options.every else site.unchanged.find(states)
    tenants = spread(states)
    unchanged = tuple(name for name in tenants if name in found and name not in canary.named)
    wanted = [name for name in tenants if name not in frozenset(unchanged)]
    return Plan(waves=plan_waves(wanted, canary, options.wave_size or _WAVE_SIZE), unchanged=unchanged)


def _run(site: Site, desk: RolloutDesk, running: Rollout, *, thorough: bool) -> Rollout:
    """Run the pending tenants of a rollout, and return its final state."""
    title = f"rollout {running.id}"
    waves = max((tenant.wave or 0 for tenant in running.tenants), default=0)
    done = sum(tenant.status in ENDED for tenant in running.tenants)
    progress = CountedProgress(err, title, len(running.tenants), done)

    def on_tenant(tenant: RolloutTenant) -> None:
        if tenant.status in ("done", "failed", "skipped"):
            problem = tenant.error if tenant.status == "failed" else ""
            progress.advance(tenant.cliente_id, problem, f"{title}, {wave_name(tenant.wave)} of {waves}")

    run = RolloutRun(
        site.lifecycle(),
        desk,
        concurrency=running.concurrency,
        budget=FailureBudget.parse(running.failure_budget),
        thorough=thorough,
        on_tenant=on_tenant,
    )
    try:
        with progress.running():
            run.run(running.tenants)
    except KeyboardInterrupt:
        err.print(f"rollout {running.id} interrupted; run `kryonix fleet rollout --resume` to continue")
        raise typer.Exit(130) from None
    return desk.latest()


def _dry_run(site: Site, plan: Plan, concurrency: int, json_output: bool) -> None:
    states = {state.cliente_id: state for state in site.states()}
    ordered = [states[name] for wave in plan.waves for name in wave]
    found = {drift.tenant: drift for drift in _examine(site, ordered, concurrency, "dry run", refresh=False)}
    found |= {name: Drift(tenant=name, cell=states[name].cell) for name in plan.unchanged}
    print_result(output.dry_run_json(plan, found), output.dry_run_table(plan, found, out), json_output)
    if any(drift.problem for drift in found.values()):
        raise typer.Exit(_FAILED)


def _examine(
    site: Site, states: Sequence[DesiredState], concurrency: int, title: str, *, refresh: bool = True
) -> list[Drift]:
    """Return every tenant's drift, with progress. After a refresh, the next rollout runs those that differ."""
    found, by_id = [], {state.cliente_id: state for state in states}
    applied = site.unchanged.find(states) if refresh else {}
    with CountedProgress(err, title, len(states)).running() as progress:
        for drift in find_drift(site.engine, site.cells, states, concurrency=concurrency, refresh=refresh):
            if refresh and (drift.differs or drift.problem):
                site.unchanged.forget(drift.tenant)
            elif drift.tenant in applied:
                site.unchanged.renew(by_id[drift.tenant], applied[drift.tenant])
            progress.advance(drift.tenant, drift.problem)
            found.append(drift)
    return sorted(found, key=lambda drift: drift.tenant)
