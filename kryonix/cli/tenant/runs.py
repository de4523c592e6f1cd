"""What the `kryonix tenant` commands do and print."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from rich.markup import escape

from kryonix.cli.confirmation import confirm
from kryonix.cli.console import err, out, print_json
from kryonix.cli.outage import Outage, explains_outages
from kryonix.cli.private_file import check_target, write_private
from kryonix.cli.progress import Display, converged_line
from kryonix.cli.site import open_site, project_folder
from kryonix.cli.tables import Column, fitted, modules_text
from kryonix.engines.deployer import deployer_for
from kryonix.engines.engine import Choice
from kryonix.engines.events import OnEvent
from kryonix.errors import InvalidChoice
from kryonix.registry.desired_states import DesiredState
from kryonix.tenants.credentials import Credentials, find_credentials
from kryonix.tenants.lifecycle import TenantLifecycle
from kryonix.topology.catalog import default_catalog
from kryonix.topology.naming import TENANT_ID
from kryonix.topology.tenants import parse_tenant

__all__ = [
    "change",
    "converge",
    "create",
    "credentials",
    "exports",
    "list_tenants",
    "offboard",
    "remove",
    "rotate",
    "settle",
    "simple",
]

R = TypeVar("R")

_COLUMNS: Final = (
    Column("tenant", folds=16),
    Column("plan"),
    Column("modules", folds=14),
    Column("cell", folds=8, leaves=1),
    Column("status"),
    Column("still to come", folds=16),
)


@explains_outages
def list_tenants(stack: str, engine: Choice, with_removed: bool, json_output: bool) -> None:
    """Print every tenant's desired state; of those that are gone only where they are asked for, and as JSON."""
    states = _lifecycle(stack, engine).states()
    if json_output:
        print_json([_state_json(state) for state in states])
        return
    shown = [state for state in states if with_removed or state.stage != "removed"]
    hidden = len(states) - len(shown)
    title = f"{len(shown)} tenant(s) with a stack of their own"
    if with_removed:
        title = f"{len(shown)} tenant(s) that have or had a stack of their own"
    elif hidden:
        title += f"; {hidden} removed, with --all"
    out.print(fitted(title, _COLUMNS, map(_row, shown), out))


def _row(state: DesiredState) -> list[str]:
    modules = modules_text(state.modules, default_catalog())
    return [escape(each) for each in (state.cliente_id, state.plan, modules, state.cell, state.stage, _to_come(state))]


@explains_outages
def create(asked: Mapping[str, Any], stack: str, engine: Choice, json_output: bool) -> None:
    """Make a tenant."""
    tenant = parse_tenant({**asked, "modules": list(asked["modules"])}, "kryonix tenant create", default_catalog())
    lifecycle = _lifecycle(stack, engine)
    made = _shown(f"create {tenant.id}", lambda on_event: lifecycle.create(tenant, on_event))
    _print_credentials(made, json_output)


@explains_outages
def change(
    tenant: str,
    modules: tuple[str, ...] | None,
    plan: str | None,
    allow_delete: tuple[str, ...],
    stack: str,
    engine: Choice,
    json_output: bool,
) -> None:
    """Change modules or plan."""
    if modules is None and plan is None:
        raise InvalidChoice("nothing to change was named. Give --modules, --plan, or both")
    lifecycle = _lifecycle(stack, engine)

    def run(on_event: OnEvent) -> None:
        lifecycle.change(tenant, modules=modules, plan=plan, allow_delete=allow_delete, on_event=on_event)

    _shown(f"change {tenant}", run)
    _print_state(lifecycle.state(tenant), json_output)


@explains_outages
def simple(operation: str, tenant: str, stack: str, engine: Choice, json_output: bool) -> None:
    """Run `suspend` or `resume`."""
    lifecycle = _lifecycle(stack, engine)
    _shown(f"{operation} {tenant}", lambda on_event: getattr(lifecycle, operation)(tenant, on_event))
    _print_state(lifecycle.state(tenant), json_output)


@explains_outages
def rotate(tenant: str, overlap_hours: float, stack: str, engine: Choice, json_output: bool) -> None:
    """Make new credentials."""
    lifecycle, overlap = _lifecycle(stack, engine), timedelta(hours=overlap_hours)
    made = _shown(f"rotate {tenant}", lambda on_event: lifecycle.rotate(tenant, on_event, overlap=overlap))
    _print_credentials(made, json_output)


def credentials(tenant: str, output: Path | None, stack: str, engine: Choice, json_output: bool) -> None:
    """Print one tenant's credentials, or write them to a file."""
    if not re.fullmatch(TENANT_ID, tenant):
        raise InvalidChoice(f"{tenant!r} is not a tenant's id. Use 3 to 40 of a-z, 0-9 and -, a letter first")
    if output is not None:
        check_target(output)
    found = find_credentials(deployer_for(engine, project_folder()), tenant, stack)
    if output is not None:
        write_private(output, found)
        err.print(f"wrote the credentials of {tenant} to {escape(str(output))}", soft_wrap=True)
    elif json_output:
        print_json(found)
    else:
        for name, value in found.items():
            text = value if isinstance(value, str) else ", ".join(value)
            out.print(f"[bold]{name}[/bold] {escape(text)}", soft_wrap=True, highlight=False)


@explains_outages
def offboard(tenant: str, grace_days: float, stack: str, engine: Choice, json_output: bool) -> None:
    """Begin a tenant's leave."""
    lifecycle = _lifecycle(stack, engine, grace=timedelta(days=grace_days))
    _shown(f"offboard {tenant}", lambda on_event: lifecycle.offboard(tenant, on_event))
    _print_state(lifecycle.state(tenant), json_output)


@explains_outages
def remove(tenant: str, force: bool, yes: bool, stack: str, engine: Choice, json_output: bool) -> None:
    """End a tenant's leave."""
    if not yes:
        confirm("tenant remove", lambda: f"remove the tenant {tenant!r} with all its messages?")
    lifecycle = _lifecycle(stack, engine)
    _shown(f"remove {tenant}", lambda on_event: lifecycle.remove(tenant, on_event, force=force))
    _print_state(lifecycle.state(tenant), json_output)


@explains_outages
def converge(tenant: str, stack: str, engine: Choice, json_output: bool) -> None:
    """Bring a tenant to its row, whatever was changed by hand."""
    Outage(stack, engine).refuse_paused()
    lifecycle = _lifecycle(stack, engine)
    summary = _shown(f"converge {tenant}", lambda on_event: lifecycle.converge(tenant, on_event))
    if json_output:
        left = lifecycle.undeclared(tenant)
        strange = left.as_json() if left else None
        print_json({**_state_json(lifecycle.state(tenant)), "changes": summary.changes, "undeclared": strange})
    else:
        out.print(converged_line(summary))


@explains_outages
def exports(tenant: str, stack: str, engine: Choice) -> None:
    """Print a tenant's final exports."""
    found = _lifecycle(stack, engine).final_exports(tenant)
    print_json([{**asdict(export), "exported_at": export.exported_at.isoformat()} for export in found])


@explains_outages
def settle(stack: str, engine: Choice, json_output: bool) -> None:
    """Do what is due, tenant by tenant. A tenant that fails does not keep the others waiting; the first is raised."""
    lifecycle = _lifecycle(stack, engine)
    failures: list[Exception] = []
    settled: list[str] = []
    for tenant in lifecycle.due():
        try:
            _shown(f"settle {tenant}", partial(lifecycle.settle, tenant))
            settled.append(tenant)
        except Exception as error:  # noqa: BLE001  told below, once the others have had their turn
            failures.append(error)
            err.print(f"[red]failed[/red] {tenant}: {escape(str(error))}", soft_wrap=True)
    if failures:
        raise failures[0]
    if json_output:
        print_json({"settled": settled})
    else:
        out.print(f"{len(settled)} tenant(s) settled" + (f": {', '.join(settled)}" if settled else ""))


def _lifecycle(stack: str, engine: Choice, *, grace: timedelta = timedelta(days=30)) -> TenantLifecycle:
    site = open_site(stack, engine)
    return TenantLifecycle(site.registry_dsn, site.deployer, site.cells, site.catalog, grace=grace)


def _shown(title: str, run: Callable[[OnEvent], R]) -> R:
    display = Display(err, title)
    try:
        with display.running():
            return run(display.take)
    except KeyboardInterrupt:
        err.print(f"{title}: interrupted; the same command goes on with it")
        raise


def _print_credentials(made: Credentials, json_output: bool) -> None:
    found = {name: getattr(made, name) for name in ("vhost", "username", "password", "amqp_uri")}
    if json_output:
        print_json(found)
        return
    for name, value in found.items():
        out.print(f"[bold]{name}[/bold] {escape(value)}", soft_wrap=True, highlight=False)
    err.print("Put them where the tenant's applications find them. `kryonix tenant credentials` shows them again.")


def _print_state(state: DesiredState, json_output: bool) -> None:
    if json_output:
        print_json(_state_json(state))
        return
    to_come = _to_come(state)
    line = f"{state.cliente_id}: {state.stage}, plan {state.plan}, {', '.join(state.modules)}"
    out.print(escape(f"{line}; {to_come}" if to_come else line), soft_wrap=True)


def _state_json(state: DesiredState) -> dict[str, Any]:
    return {
        "id": state.cliente_id,
        "status": state.stage,
        "plan": state.plan,
        "modules": list(state.modules),
        "cell": state.cell,
        "converged": state.converged,
        "credentials_generation": state.credentials_generation,
        "retiring_until": state.retiring_until and state.retiring_until.isoformat(),
        "remove_after": state.remove_after and state.remove_after.isoformat(),
    }


def _to_come(state: DesiredState) -> str:
    told = [] if state.converged else ["the last operation did not finish: run it again, or `fleet rollout`"]
    if state.retiring_until is not None:
        told.append(f"old credentials end {state.retiring_until:%Y-%m-%d %H:%M %Z}")
    if state.remove_after is not None and not state.removing:
        told.append(f"removed after {state.remove_after:%Y-%m-%d %H:%M %Z}")
    return "; ".join(told)
