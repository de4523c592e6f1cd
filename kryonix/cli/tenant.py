"""`kryonix tenant`: operations on one tenant with its own stack."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import typer
from rich.markup import escape

from kryonix.cli.groups import group
from kryonix.cli.options import Json, PlatformOptions, Yes, check_tenant, command, parse_names
from kryonix.cli.output.console import (
    check_target,
    confirm,
    err,
    fields_text,
    out,
    print_error,
    print_json,
    print_result,
    write_private,
)
from kryonix.cli.output.fleet import state_json
from kryonix.cli.output.progress import RunProgress
from kryonix.cli.output.tables import (
    Column,
    changes_text,
    converged_line,
    modules_text,
    responsive_table,
    step_json,
    steps_table,
)
from kryonix.cli.site import Outage, load_cells, open_site, platform_command, project_folder, spec_of, tenants_file
from kryonix.engines.choice import engine_for
from kryonix.engines.engine import StackSpec
from kryonix.engines.events import OnEvent, Summary
from kryonix.errors import InvalidChoice, ServiceUnreachable
from kryonix.fleet.members import OWN_STACK, fleet_members
from kryonix.rabbitmq.broker import Broker
from kryonix.registry.connection import connect
from kryonix.registry.desired_states import DesiredState
from kryonix.tenants.adoption import Adoption
from kryonix.tenants.credentials import Credentials, find_credentials
from kryonix.tenants.errors import WouldLoseMessages
from kryonix.tenants.lifecycle import TenantLifecycle
from kryonix.topology.catalog import default_catalog
from kryonix.topology.document import Document, validated
from kryonix.topology.errors import nearest, shown
from kryonix.topology.notify import Notify
from kryonix.topology.tenants import parse_tenant

R = TypeVar("R")

TenantId = Annotated[str, typer.Argument(metavar="ID", help="Tenant ID.")]
Modules = typer.Option(metavar="MODULE,…", help="All modules of the tenant.")
Plan = typer.Option(help="Plan of the tenant.")
Webhook = typer.Option(
    metavar="URL", help="URL to which the tenant's alerts are posted; `-` reads it from standard input."
)
Email = typer.Option(metavar="ADDRESS", help="Address to which the tenant's alerts are sent; repeatable.")

_OPERATIONS: Final = 5
"""Operations shown of a tenant."""
_MESSAGE_COLUMNS: Final[tuple[Column[tuple[str, int]], ...]] = (
    Column("queue", lambda held: held[0], min_width=24),
    Column("messages", lambda held: held[1], number=True),
)

app = group("tenant", "Create, change, suspend and remove tenants with their own stack.")


@platform_command(app, "list")
def list_tenants(
    platform: PlatformOptions,
    with_removed: Annotated[bool, typer.Option("--all", help="Include removed tenants.")] = False,
    json_output: Json = False,
) -> None:
    """Show every tenant: what manages it, desired state, and pending changes. JSON includes removed tenants.

    The other commands are for tenants with their own stack; the file that declares a tenant changes it.
    """
    site = open_site(platform)
    states, managed_by = site.tenants(site.engine.stacks())
    managers = {state.cliente_id: managed_by.get(state.cliente_id, OWN_STACK) for state in states}
    if json_output:
        print_json([{**_state_json(state), "managed_by": managers[state.cliente_id]} for state in states])
        return
    listed = [state for state in states if with_removed or state.stage != "removed"]
    title = f"{len(listed)} tenant(s)"
    if with_removed:
        title += ", including removed tenants"
    elif hidden := len(states) - len(listed):
        title += f"; {hidden} removed, shown with --all"
    columns: tuple[Column[DesiredState], ...] = (
        Column("tenant", lambda state: state.cliente_id, min_width=16),
        Column("plan", lambda state: state.plan),
        Column("modules", lambda state: modules_text(state.modules, default_catalog()), min_width=14),
        Column("managed by", lambda state: managers[state.cliente_id], min_width=12),
        Column("cell", lambda state: state.cell, min_width=8, drop_priority=1),
        Column("status", lambda state: state.stage),
        Column("pending", _pending_text, min_width=16),
    )
    out.print(responsive_table(title, columns, listed, out))


@platform_command(app)
def show(tenant: TenantId, platform: PlatformOptions, json_output: Json = False) -> None:
    """Show one tenant, whatever manages it: plan, users, use of its limits, messages and last operations.

    Exit status 3 if its broker does not answer; the rest is still shown.
    """
    from kryonix.cli.output import tenant as output  # imports the SDK and the signup service
    from kryonix.signup.operations import Operation, fetch_newest

    site = open_site(platform)
    stacks = site.engine.stacks()
    states, managed_by = site.tenants(stacks)
    state = next((each for each in states if each.cliente_id == tenant), None)
    if state is None:
        names = [each.cliente_id for each in states if each.stage != "removed"]
        hint = f"; {nearest(tenant, names)}" if names else ""
        raise InvalidChoice(f"there is no tenant {shown(tenant)} on the platform of stack {platform.stack!r}{hint}")
    cells = site.read_cells()
    member = next(iter(fleet_members([state], stacks, cells.uses, site.catalog, managed_by)), None)
    if member is None:
        raise InvalidChoice(f"tenant {tenant!r} is removed. `kryonix tenant exports {tenant}` prints its final exports")
    users = depths = None
    if member.use is not None:
        cell = site.cells.cell(member.state.cell)
        broker = Broker.of(site.engine.outputs(StackSpec(name=cell.stack)))
        users = broker.users(member.vhost)
        depths = output.depths_of(broker.queues(member.vhost), tenant, site.catalog)
    operations: list[Operation] = []
    if dsn := site.outputs.get("signup_dsn"):
        with connect(dsn) as connection:
            operations = fetch_newest(connection, tenant, _OPERATIONS)
    found = output.tenant_json(_state_json(state), member, users, depths, operations)
    print_result(found, output.tenant_report(found, out), json_output)
    if member.use is None:
        for problem in cells.problems.values():
            print_error(problem)
        raise typer.Exit(ServiceUnreachable.exit_status)


@platform_command(app)
def create(
    tenant: TenantId,
    platform: PlatformOptions,
    modules: Annotated[str, Modules],
    plan: Annotated[str, Plan],
    cell: Annotated[str, typer.Option(help="Cell to create it in; `kryonix fleet place` suggests one.")] = "main",
    auth: Annotated[
        str, typer.Option(metavar="password|certificate", help="How its applications log in; a certificate needs TLS.")
    ] = "password",
    notify_webhook: Annotated[str | None, Webhook] = None,
    notify_email: Annotated[list[str] | None, Email] = None,
    json_output: Json = False,
) -> None:
    """Create a tenant and print its credentials. If interrupted, run the same command again."""
    wanted: dict[str, Any] = {
        "id": tenant,
        "modules": list(parse_names(modules)),
        "plan": plan,
        "cell": cell,
        "auth": auth,
    }
    if notify := _addresses(notify_webhook, notify_email):
        wanted["notify"] = notify
    parsed = parse_tenant(wanted, "kryonix tenant create", default_catalog())
    lifecycle = _lifecycle(platform)
    _print_credentials(_run(f"create {tenant}", partial(lifecycle.create, parsed)), json_output)


@platform_command(app)
def change(
    tenant: TenantId,
    platform: PlatformOptions,
    modules: Annotated[str | None, Modules] = None,
    plan: Annotated[str | None, Plan] = None,
    notify_webhook: Annotated[str | None, Webhook] = None,
    notify_email: Annotated[list[str] | None, Email] = None,
    no_notify: Annotated[
        bool,
        typer.Option("--no-notify", help="Forget webhook and addresses; the other options give new ones."),
    ] = False,
    allow_delete: Annotated[
        list[str] | None,
        typer.Option(help="Queue that may be deleted with its messages, or a pattern with `*`; repeatable."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the changes; change nothing.")] = False,
    json_output: Json = False,
) -> None:
    """Change a tenant's modules, plan, or where its alerts go.

    Queues that hold messages are kept unless --allow-delete names them. Exit status 2 if the change is refused, with
    --dry-run too.
    """
    given = _addresses(notify_webhook, notify_email)
    if modules is None and plan is None and not given and not no_notify:
        raise InvalidChoice(
            "nothing to change: give --modules, --plan, --notify-webhook, --notify-email or --no-notify"
        )
    lifecycle = _lifecycle(platform)
    names = None if modules is None else parse_names(modules)
    wanted: dict[str, Any] = {"modules": names, "plan": plan, "allow_delete": allow_delete or ()}

    notify: Notify | Literal["keep"] | None = "keep"
    if given or no_notify:
        state = lifecycle.state(tenant)
        before = {} if no_notify or state.notify is None else state.notify.plain()
        notify = _parsed_notify({**before, **given})

    def preview(on_event: OnEvent) -> tuple[Summary, WouldLoseMessages | None]:
        return lifecycle.preview_change(tenant, on_event=on_event, **wanted)

    if dry_run:
        _print_dry_run(tenant, *_run(f"change {tenant} (dry run)", preview), json_output)
        return
    _operate(
        lifecycle,
        "change",
        tenant,
        lambda on_event: lifecycle.change(tenant, notify=notify, on_event=on_event, **wanted),
        json_output,
    )


@platform_command(app)
def suspend(tenant: TenantId, platform: PlatformOptions, json_output: Json = False) -> None:
    """Block the tenant's connections and close open ones. Nothing is deleted."""
    lifecycle = _lifecycle(platform)
    _operate(lifecycle, "suspend", tenant, partial(lifecycle.suspend, tenant), json_output)


@platform_command(app)
def resume(tenant: TenantId, platform: PlatformOptions, json_output: Json = False) -> None:
    """Undo `suspend`, or `offboard` until the tenant is removed."""
    lifecycle = _lifecycle(platform)
    _operate(lifecycle, "resume", tenant, partial(lifecycle.resume, tenant), json_output)


@platform_command(app)
def rotate(
    tenant: TenantId,
    platform: PlatformOptions,
    overlap_hours: Annotated[
        float, typer.Option(min=0, max=87_600, help="Hours the old credentials stay valid; 0 ends them at once.")
    ] = 24,
    json_output: Json = False,
) -> None:
    """Create new credentials and print them. `kryonix tenant settle` removes the old ones after the overlap."""
    lifecycle = _lifecycle(platform)
    rotation = partial(lifecycle.rotate, tenant, overlap=timedelta(hours=overlap_hours))
    _print_credentials(_run(f"rotate {tenant}", rotation), json_output)
    if not json_output:
        until = lifecycle.state(tenant).retiring_until
        end = f"end {until:%Y-%m-%d %H:%M %Z}, with the next `kryonix tenant settle`" if until else "have ended"
        err.print(f"The old credentials {end}.", soft_wrap=True)


@command(app)
def credentials(
    tenant: TenantId,
    platform: PlatformOptions,
    output: Annotated[
        Path | None, typer.Option(help="Write JSON to this file with mode 600, for the SDK's `outputs=`.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Print one tenant's credentials, and nothing of other tenants.

    Reads the state only: the tenant's own stack, else the platform's, else another cell's.
    """
    check_tenant(tenant)
    if output is not None:
        check_target(output)
    project = project_folder()
    cells = (cell.stack for cell in load_cells(project, platform.stack).cells.values())
    found = find_credentials(engine_for(platform.engine, project), tenant, platform.stack, cells)
    if output is not None:
        write_private(output, found)
        err.print(f"wrote the credentials of {tenant} to {escape(str(output))}", soft_wrap=True)
        return
    print_result(found, _credentials_text(found), json_output)


@platform_command(app)
def adopt(
    tenant: TenantId,
    platform: PlatformOptions,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would move, and change nothing.")] = False,
    json_output: Json = False,
) -> None:
    """Move a tenant of the platform's list to a stack of its own. On the broker nothing changes.

    Users, passwords, queues and messages stay, and applications stay connected. Its entry leaves tenants.yaml.
    """
    site, file = open_site(platform, keep=True), tenants_file(platform.stack)
    adoption = Adoption(site.registry_dsn, site.engine, site.cells, site.catalog, spec_of(platform), file)
    done = adoption.plan(tenant) if dry_run else _run(f"adopt {tenant}", partial(adoption.run, tenant))
    name = file.path.name
    lines = "line {0}" if done.lines and done.lines[0] == done.lines[1] else "lines {0} to {1}"
    entry = f"{name}, {lines.format(*done.lines)}" if done.lines else ""
    if not (done.resources or entry):
        text = f"{tenant} has a stack of its own already, {done.stack}. Nothing was changed."
    elif dry_run:
        text = f"{tenant} would move to the stack {done.stack}: {done.resources} resources"
        text += f", and its entry would leave {entry}. Nothing was changed."
    else:
        text = f"{tenant} has a stack of its own now, {done.stack}: {done.resources} resources moved."
        text += f"\nIts entry has left {entry}. Commit that file." if entry else ""
    print_result({**asdict(done), "tenants_file": name, "dry_run": dry_run}, escape(text), json_output)


@platform_command(app)
def offboard(
    tenant: TenantId,
    platform: PlatformOptions,
    grace_days: Annotated[float, typer.Option(min=0, max=36_500, help="Days during which `resume` can undo it.")] = 30,
    json_output: Json = False,
) -> None:
    """Save a final export, suspend the tenant, and schedule its removal."""
    lifecycle = _lifecycle(platform, grace=timedelta(days=grace_days))
    _operate(lifecycle, "offboard", tenant, partial(lifecycle.offboard, tenant), json_output)


@platform_command(app)
def remove(
    tenant: TenantId,
    platform: PlatformOptions,
    force: Annotated[bool, typer.Option("--force", help="Remove it even if the grace period has not ended.")] = False,
    yes: Yes = False,
    json_output: Json = False,
) -> None:
    """Remove an offboarded tenant with its messages and credentials, after listing its messages.

    Its registry rows are kept as history.
    """
    lifecycle = _lifecycle(platform)
    lifecycle.removable(tenant, force=force)
    messages = lifecycle.messages(tenant)
    if messages:
        title = f"{tenant}: {sum(messages.values()):,} message(s) to delete, in {len(messages):,} queue(s)"
        err.print(responsive_table(title, _MESSAGE_COLUMNS, sorted(messages.items()), err))
    if not yes:
        confirm("tenant remove", f"Remove tenant {tenant!r} with {sum(messages.values()):,} message(s)?")
    _operate(lifecycle, "remove", tenant, partial(lifecycle.remove, tenant, force=force), json_output)


@platform_command(app)
def converge(tenant: TenantId, platform: PlatformOptions, json_output: Json = False) -> None:
    """Apply the tenant's desired state again, after an interrupted operation or a manual change."""
    Outage(platform).refuse_paused()
    lifecycle = _lifecycle(platform)
    summary = _run(f"converge {tenant}", partial(lifecycle.converge, tenant))
    if json_output:
        undeclared = lifecycle.undeclared(tenant)
        found = {"changes": summary.changes, "undeclared": undeclared.as_json() if undeclared else None}
        print_json({**_state_json(lifecycle.state(tenant)), **found})
    else:
        out.print(converged_line(summary))


@platform_command(app)
def exports(tenant: TenantId, platform: PlatformOptions) -> None:
    """Print the tenant's final exports as JSON, newest first."""
    print_json(_lifecycle(platform).final_exports(tenant))


@platform_command(app)
def settle(platform: PlatformOptions, json_output: Json = False) -> None:
    """Remove old credentials and tenants that are due. Run it from a timer."""
    lifecycle = _lifecycle(platform)
    failures: list[Exception] = []
    settled: list[str] = []
    for tenant in lifecycle.due():
        try:
            _run(f"settle {tenant}", partial(lifecycle.settle, tenant))
            settled.append(tenant)
        except Exception as error:  # noqa: BLE001  raised below, after the other tenants
            failures.append(error)
            err.print(f"[red]failed[/red] {tenant}: {escape(str(error))}", soft_wrap=True)
    if failures:
        raise failures[0]
    text = f"{len(settled)} tenant(s) settled" + (f": {', '.join(settled)}" if settled else "")
    print_result({"settled": settled}, text, json_output)


def _addresses(webhook: str | None, email: list[str] | None) -> dict[str, Any]:
    """Return the given part of `notify`. A webhook with a token can come from standard input: others see arguments."""
    given: dict[str, Any] = {}
    if webhook is not None:
        given["webhook"] = sys.stdin.readline().strip() if webhook == "-" else webhook
    if email:
        given["email"] = email
    return given


def _parsed_notify(value: dict[str, Any]) -> Notify | None:
    """Return where alerts go; None for an empty value. Raises InvalidInput."""
    return validated(Notify, Document("--notify", value, {})) if value else None


def _lifecycle(platform: PlatformOptions, **durations: timedelta) -> TenantLifecycle:
    return open_site(platform, keep=True).lifecycle(**durations)


def _run(title: str, operation: Callable[[OnEvent], R]) -> R:
    """Run an operation with progress."""
    with RunProgress(err, title).running() as progress:
        return operation(progress.on_event)


def _print_dry_run(tenant: str, summary: Summary, refusal: WouldLoseMessages | None, json_output: bool) -> None:
    """Print what a change would do. Exit with the refusal's status if it would be refused."""
    held = refusal.queues if refusal else {}
    steps = [step_json(step) for step in summary.steps if step.op not in ("same", "read")]
    value = {"dry_run": True, "changes": summary.changes, "steps": steps, "messages": held}
    text = f"{tenant} would change: {changes_text(summary.changes) or 'nothing'}. Nothing was changed."
    print_result(value, [steps_table(summary.steps, out), text], json_output)
    if refusal is not None:
        print_error(str(refusal))
        raise typer.Exit(refusal.exit_status)


def _print_credentials(made: Credentials, json_output: bool) -> None:
    found = made.shown()
    print_result(found, _credentials_text(found), json_output)
    if not json_output:
        err.print("Give these to the tenant's applications. `kryonix tenant credentials` prints them again.")


def _credentials_text(found: Mapping[str, Any]) -> str:
    return fields_text({name: value if isinstance(value, str) else ", ".join(value) for name, value in found.items()})


def _operate(
    lifecycle: TenantLifecycle, name: str, tenant: str, operation: Callable[[OnEvent], object], json_output: bool
) -> None:
    """Run an operation with progress, and print the tenant's new state."""
    _run(f"{name} {tenant}", operation)
    state = lifecycle.state(tenant)
    line = f"{state.cliente_id}: {state.stage}"
    if state.stage != "removed":
        line += f", plan {state.plan}, modules {', '.join(state.modules)}"
    print_result(_state_json(state), escape("; ".join(filter(None, (line, _pending_text(state))))), json_output)


def _state_json(state: DesiredState) -> dict[str, Any]:
    return {
        **state_json(state),
        "converged": state.converged,
        "credentials_generation": state.credentials_generation,
        "retiring_until": state.retiring_until,
        "remove_after": state.remove_after,
    }


def _pending_text(state: DesiredState) -> str:
    pending = [] if state.converged else ["operation running or interrupted; if interrupted, run it again"]
    if state.retiring_until is not None:
        pending.append(f"old credentials end {state.retiring_until:%Y-%m-%d %H:%M %Z}")
    if state.remove_after is not None and not state.removing:
        pending.append(f"removed after {state.remove_after:%Y-%m-%d %H:%M %Z}")
    return "; ".join(pending)
