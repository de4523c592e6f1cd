"""`kryonix status`: a stack's tenants as the broker and the registry report them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from operator import itemgetter
from typing import Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kryonix.cli import site
from kryonix.cli.options import Json, StackOptions, command
from kryonix.cli.output.console import out, print_error, print_result
from kryonix.cli.output.tables import Column, figure, modules_text, responsive_table
from kryonix.engines.containers import platform_of
from kryonix.errors import ServiceUnreachable
from kryonix.fleet.cell_use import VhostUse, read_cell
from kryonix.fleet.members import LIST, OWN_STACK, other_tenants
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.registry.connection import connect
from kryonix.registry.desired_states import DesiredState, fetch_desired_states
from kryonix.registry.errors import RegistryError
from kryonix.registry.rows import TenantRow, fetch_tenants
from kryonix.topology.addresses import host_port, speaks_amqps
from kryonix.topology.catalog import default_catalog
from kryonix.topology.naming import Names

_REGISTRY_STATUS: Final[Mapping[str | None, str]] = {"ativo": "active", "suspenso": "suspended", None: "not read"}
"""Translations of the registry's `status` column, for the table; JSON keeps the column's own values."""
_COLUMNS: Final[tuple[Column[Mapping[str, Any]], ...]] = (
    Column("tenant", itemgetter("id"), min_width=16),
    Column("plan", itemgetter("plan")),
    Column("modules", lambda tenant: modules_text(tenant["modules"], default_catalog()), min_width=14, drop_priority=2),
    Column("vhost", itemgetter("vhost"), drop_priority=1),
    Column("queues", lambda tenant: _of(_queues(tenant), tenant["max_queues"]), number=True),
    Column("connections", lambda tenant: _of(tenant["connections"], tenant["max_connections"]), number=True),
    Column("messages", itemgetter("messages"), number=True, drop_priority=3),
    Column("managed by", itemgetter("managed_by"), drop_priority=4),
    Column("broker", lambda tenant: _broker_text(tenant), min_width=14),
    Column("registry", lambda tenant: _REGISTRY_STATUS.get(tenant["registry"], tenant["registry"]), min_width=11),
)
_URLS: Final = ("management_url", "metrics_url", "prometheus_url", "alertmanager_url", "grafana_url", "signup_url")
_NO_PLATFORM: Final = "the stack's outputs don't name a platform. Run `kryonix status` on the platform's stack"

app = typer.Typer()


@command(app)
def status(target: StackOptions, json_output: Json = False) -> None:
    """Show the tenants as the broker and the registry report them.

    A platform's stack shows all of its tenants, also those with stacks of their own. Exit status 3 if the broker or the
    registry does not answer; its part of the table then comes from the state.
    """
    if not site.engine_of(target).outputs(site.spec_of(target), show_secrets=False):
        raise site.nothing_deployed(target, "has no outputs: nothing is deployed")
    deployment, cells = site.deployment_of(target), None
    if platform_of(deployment) is None:
        name = target.stack.rpartition("/")[2]
        cells = [id for id, cell in site.load_cells(site.project_folder(), name).cells.items() if cell.stack == name]
    found = read_status(site.outputs_with_platform(target, deployment), cells, site.engine_of(target).stacks)
    print_result(found, status_report(found, out), json_output)
    if problems := problems_of(found):
        advice = site.Outage(target).advice()
        for problem in [advice] if advice else problems.values():
            print_error(problem)
        raise typer.Exit(ServiceUnreachable.exit_status)


def read_status(
    outputs: Mapping[str, Any], cells: Collection[str] | None = None, stacks: Callable[[], Collection[str]] = tuple
) -> dict[str, Any]:
    """Return what a stack's broker and registry report, without secrets; null for what was not read.

    `outputs` are the stack's, and include its platform's.
    `cells` are a platform's names as a cell: its tenants with stacks of their own are shown too. `stacks` lists the
    engine's, which may be thousands of files.
    """
    uses: Mapping[str, VhostUse] | None = None
    registered: Mapping[str, str] | None = None
    problems: dict[str, str] = {}
    manager = OWN_STACK if cells is None else LIST
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
            tenants = _managed(tenants, rows, states, cells, stacks, uses)
        else:
            problems["registry"] = f"the registry was not read: {_NO_PLATFORM}"
    except RegistryError as error:
        problems["registry"] = str(error)
    scheme = "amqps" if speaks_amqps(outputs) else "amqp"
    return {
        "tenants": [_tenant_json(name, tenant, uses, registered) for name, tenant in sorted(tenants.items())],
        "broker": {"reachable": uses is not None, "problem": problems.get("broker")},
        "registry": {"reachable": registered is not None, "problem": problems.get("registry")},
        **{name: outputs[name] for name in _URLS if name in outputs},
        "amqp": f"{scheme}://{host_port(outputs['amqp_host'], int(outputs['amqp_port']))}",
    }


def problems_of(status: Mapping[str, Any]) -> dict[str, str]:
    """Return why the broker or the registry was not read."""
    return {name: status[name]["problem"] for name in ("broker", "registry") if status[name]["problem"]}


def _managed(
    tenants: dict[str, dict[str, Any]],
    rows: list[TenantRow],
    states: list[DesiredState],
    cells: Collection[str] | None,
    stacks: Callable[[], Collection[str]],
    uses: Mapping[str, VhostUse] | None,
) -> dict[str, dict[str, Any]]:
    """Return a stack's tenants with what manages them, and the platform's others."""
    live = {state.cliente_id: state for state in states if state.stage != "removed"}
    if cells is None:
        files = {id: f"Pulumi.{Names(id).stack}.yaml" for id in tenants if id not in live}
        return {id: {**tenant, "managed_by": files.get(id, OWN_STACK)} for id, tenant in tenants.items()}
    mine = [(state, OWN_STACK) for state in live.values() if state.cell in cells]
    known = {*live, *tenants}
    if unlisted := [row for row in rows if row.cliente_id not in known and row.status != "removido"]:
        others = other_tenants(unlisted, states, {}, stacks()).values()
        mine += [each for each in others if uses is None or Names(each[0].cliente_id).vhost in uses]
    return {state.cliente_id: _tenant(state, manager) for state, manager in mine} | tenants


def _tenant(state: DesiredState, manager: str) -> dict[str, Any]:
    """Return a tenant of the registry as a stack's outputs describe one. Its own stack knows its number of queues."""
    vhost = Names(state.cliente_id).vhost
    return {"plan": state.plan, "modules": state.modules, "vhost": vhost, "queues": None, "managed_by": manager}


def _tenant_json(
    name: str, tenant: Mapping[str, Any], uses: Mapping[str, VhostUse] | None, registered: Mapping[str, str] | None
) -> dict[str, Any]:
    plans = default_catalog().plans
    use = None if uses is None else uses.get(tenant["vhost"])
    return {
        "id": name,
        "plan": tenant["plan"],
        "modules": tenant["modules"],
        "vhost": tenant["vhost"],
        "vhost_present": None if uses is None else use is not None,
        "queues": None if uses is None else use.queues if use else 0,
        "recorded_queues": None if tenant["queues"] is None else int(tenant["queues"]),
        "max_queues": plans[tenant["plan"]].limits.max_queues if tenant["plan"] in plans else None,
        "connections": use.connections if use else None,
        "max_connections": use.max_connections if use else None,
        "messages": use.messages if use else None,
        "registry": None if registered is None else registered.get(name, "absent"),
        "managed_by": tenant["managed_by"],
    }


def status_report(status: Mapping[str, Any], console: Console) -> Iterator[str | Table]:
    """Yield the tenants and the addresses."""
    title = f"{len(status['tenants'])} tenant(s)"
    if problems := problems_of(status):
        title += f"; {' and '.join(problems)} did not answer: showing the recorded state instead"
    yield responsive_table(title, _COLUMNS, status["tenants"], console)
    addresses = {name.removesuffix("_url"): status[name] for name in (*_URLS, "amqp") if name in status}
    width = max(map(len, addresses)) + 1
    yield from (f"{name:<{width}}{address}" for name, address in addresses.items())


def _of(now: int | None, allowed: int | None) -> str:
    return f"{figure(now)} of {figure(allowed)}"


def _queues(tenant: Mapping[str, Any]) -> int | None:
    found: int | None = tenant["recorded_queues"] if tenant["queues"] is None else tenant["queues"]
    return found


def _broker_text(tenant: Mapping[str, Any]) -> str | Text:
    recorded = tenant["recorded_queues"]
    if tenant["vhost_present"] is None:
        return "not read"
    if not tenant["vhost_present"]:
        return Text("vhost gone", "red")
    if recorded is not None and tenant["queues"] != recorded:
        return Text(f"{recorded} queues recorded", "red")
    return "closed" if tenant["max_connections"] == 0 else "open"
