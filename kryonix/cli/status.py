"""`kryonix status`: a stack's tenants as the broker and the registry report them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import typer
from rich.console import Console

from kryonix.cli.options import Json, StackOptions, command
from kryonix.cli.output.console import out, print_error, print_json
from kryonix.cli.output.tables import Column, modules_text, responsive_table
from kryonix.cli.site import (
    Outage,
    deployment_of,
    engine_of,
    load_cells,
    nothing_deployed,
    outputs_with_platform,
    project_folder,
    spec_of,
)
from kryonix.engines.containers import platform_of
from kryonix.fleet.cell_use import VhostUse, read_cell
from kryonix.fleet.members import LIST, OWN_STACK, other_tenants
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.registry.connection import connect
from kryonix.registry.desired_states import DesiredState, fetch_desired_states
from kryonix.registry.errors import RegistryError
from kryonix.registry.rows import TenantRow, fetch_tenants
from kryonix.topology.addresses import host_port
from kryonix.topology.catalog import default_catalog
from kryonix.topology.naming import Names

_UNREACHABLE: Final = 3
_COLUMNS: Final = (
    Column("tenant", min_width=16),
    Column("plan"),
    Column("modules", min_width=14, drop_priority=2),
    Column("vhost", drop_priority=1),
    Column("queues", number=True),
    Column("connections", number=True),
    Column("messages", number=True, drop_priority=3),
    Column("managed by", drop_priority=4),
    Column("broker", min_width=14),
    Column("registry", min_width=11),
)
_URLS: Final = ("management_url", "metrics_url")
_NO_PLATFORM: Final = "the stack's outputs don't name a platform. Run `kryonix status` on the platform's stack"
_REGISTRY_STATUS: Final = {"ativo": "active", "suspenso": "suspended", None: "not read"}
"""Translations of the registry's `status` column, for the table; JSON keeps the column's own values."""

app = typer.Typer()


@dataclass(frozen=True, slots=True, kw_only=True)
class StackStatus:
    """A stack's recorded outputs, its tenants, and what was read: None, with a problem, where there was no answer."""

    outputs: Mapping[str, Any]
    tenants: Mapping[str, Mapping[str, Any]]
    uses: Mapping[str, VhostUse] | None = None
    registered: Mapping[str, str] | None = None
    problems: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """A platform's names as a cell, and how to list the engine's stacks, which may be thousands of files."""

    cells: Collection[str]
    stacks: Callable[[], Collection[str]]


@command(app)
def status(target: StackOptions, json_output: Json = False) -> None:
    """Show the tenants as the broker and the registry report them.

    A platform's stack shows all of its tenants, also those with stacks of their own. Exit status 3 if the broker or the
    registry does not answer; its part of the table then comes from the state.
    """
    if not engine_of(target).outputs(spec_of(target), show_secrets=False):
        raise nothing_deployed(target, "has no outputs: nothing is deployed")
    deployment, platform = deployment_of(target), None
    if platform_of(deployment) is None:
        name = target.stack.rpartition("/")[2]
        cells = [id for id, cell in load_cells(project_folder(), name).cells.items() if cell.stack == name]
        platform = Surroundings(cells=cells, stacks=engine_of(target).stacks)
    found = read_status(outputs_with_platform(target, deployment), platform)
    if json_output:
        print_json(status_json(found))
    else:
        status_table(found, out)
    if found.problems:
        advice = Outage(target).advice()
        for problem in [advice] if advice else found.problems.values():
            print_error(problem)
        raise typer.Exit(_UNREACHABLE)


def read_status(outputs: Mapping[str, Any], platform: Surroundings | None = None) -> StackStatus:
    """Read the broker and the registry of a stack's outputs; these include its platform's.

    With `platform`, the stack is one, and its tenants with stacks of their own are shown too.
    """
    uses: Mapping[str, VhostUse] | None = None
    registered: Mapping[str, str] | None = None
    problems: dict[str, str] = {}
    manager = LIST if platform else OWN_STACK
    tenants = {id: {**tenant, "managed_by": manager} for id, tenant in outputs["tenants"].items()}
    try:
        if "admin_username" in outputs:
            uses = read_cell("main", outputs)
        else:
            problems["broker"] = f"the broker was not read: {_NO_PLATFORM}"
    except BrokerUnavailable as error:
        problems["broker"] = str(error)
    try:
        if outputs.get("registry_dsn"):
            with connect(outputs["registry_dsn"]) as connection:
                rows, states = fetch_tenants(connection), fetch_desired_states(connection)
            registered = {row.cliente_id: row.status for row in rows}
            tenants = _managed(tenants, rows, states, platform, uses)
        else:
            problems["registry"] = f"the registry was not read: {_NO_PLATFORM}"
    except RegistryError as error:
        problems["registry"] = str(error)
    return StackStatus(outputs=outputs, tenants=tenants, uses=uses, registered=registered, problems=problems)


def _managed(
    tenants: dict[str, dict[str, Any]],
    rows: list[TenantRow],
    states: list[DesiredState],
    platform: Surroundings | None,
    uses: Mapping[str, VhostUse] | None,
) -> dict[str, dict[str, Any]]:
    """Return a stack's tenants with what manages them, and the platform's others."""
    live = {state.cliente_id: state for state in states if state.stage != "removed"}
    if platform is None:
        files = {id: f"Pulumi.{Names(id).stack}.yaml" for id in tenants if id not in live}
        return {id: {**tenant, "managed_by": files.get(id, OWN_STACK)} for id, tenant in tenants.items()}
    mine = [(state, OWN_STACK) for state in live.values() if state.cell in platform.cells]
    known = {*live, *tenants}
    if unlisted := [row for row in rows if row.cliente_id not in known and row.status != "removido"]:
        others = other_tenants(unlisted, states, {}, platform.stacks()).values()
        mine += [each for each in others if uses is None or Names(each[0].cliente_id).vhost in uses]
    return {state.cliente_id: _tenant(state, manager) for state, manager in mine} | tenants


def _tenant(state: DesiredState, manager: str) -> dict[str, Any]:
    """Return a tenant of the registry as a stack's outputs describe one. Its own stack knows its number of queues."""
    vhost = Names(state.cliente_id).vhost
    return {"plan": state.plan, "modules": state.modules, "vhost": vhost, "queues": None, "managed_by": manager}


def status_json(status: StackStatus) -> dict[str, Any]:
    """Return the status without secrets; null for what was not read."""
    outputs = status.outputs
    urls = {name: outputs[name] for name in _URLS if name in outputs}
    return {
        "tenants": [_tenant_json(name, tenant, status) for name, tenant in sorted(status.tenants.items())],
        "broker": {"reachable": status.uses is not None, "problem": status.problems.get("broker")},
        "registry": {"reachable": status.registered is not None, "problem": status.problems.get("registry")},
        **urls,
        "amqp": f"amqp://{host_port(outputs['amqp_host'], int(outputs['amqp_port']))}",
    }


def _tenant_json(name: str, tenant: Mapping[str, Any], status: StackStatus) -> dict[str, Any]:
    plans = default_catalog().plans
    use = None if status.uses is None else status.uses.get(tenant["vhost"])
    return {
        "id": name,
        "plan": tenant["plan"],
        "modules": tenant["modules"],
        "vhost": tenant["vhost"],
        "vhost_present": None if status.uses is None else use is not None,
        "queues": None if status.uses is None else use.queues if use else 0,
        "recorded_queues": None if tenant["queues"] is None else int(tenant["queues"]),
        "max_queues": plans[tenant["plan"]].limits.max_queues if tenant["plan"] in plans else None,
        "connections": use.connections if use else None,
        "max_connections": use.max_connections if use else None,
        "messages": use.messages if use else None,
        "registry": None if status.registered is None else status.registered.get(name, "absent"),
        "managed_by": tenant["managed_by"],
    }


def status_table(status: StackStatus, console: Console) -> None:
    """Print the tenants and the addresses."""
    shown = status_json(status)
    title = f"{len(status.tenants)} tenant(s)"
    if status.problems:
        title += f"; {' and '.join(status.problems)} did not answer: showing the recorded state instead"
    console.print(responsive_table(title, _COLUMNS, map(_row, shown["tenants"]), console))
    for name in (*_URLS, "amqp"):
        if name in shown:
            console.print(f"{name.removesuffix('_url'):<11}{shown[name]}", soft_wrap=True)


def _row(tenant: Mapping[str, Any]) -> list[str]:
    def figure(number: int | None) -> str:
        return "?" if number is None else f"{number:,}"

    recorded = tenant["recorded_queues"]
    if tenant["vhost_present"] is None:
        broker = "not read"
    elif not tenant["vhost_present"]:
        broker = "[red]vhost gone[/red]"
    elif recorded is not None and tenant["queues"] != recorded:
        broker = f"[red]{recorded} queues recorded[/red]"
    else:
        broker = "closed" if tenant["max_connections"] == 0 else "open"
    return [
        tenant["id"],
        tenant["plan"],
        modules_text(tenant["modules"], default_catalog()),
        tenant["vhost"],
        f"{figure(recorded if tenant['queues'] is None else tenant['queues'])} of {figure(tenant['max_queues'])}",
        f"{figure(tenant['connections'])} of {figure(tenant['max_connections'])}",
        figure(tenant["messages"]),
        tenant["managed_by"],
        broker,
        _REGISTRY_STATUS.get(tenant["registry"], tenant["registry"]),
    ]
