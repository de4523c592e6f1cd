"""`kryonix status`: the recorded tenants of a stack beside what the broker and the registry report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import typer
from rich.console import Console

from kryonix.cli.options import Json, StackOptions, command
from kryonix.cli.output.console import out, print_error, print_json
from kryonix.cli.output.tables import Column, modules_text, responsive_table
from kryonix.cli.site import Outage, deployment_of, engine_of, nothing_deployed, outputs_with_platform, spec_of
from kryonix.fleet.cell_use import VhostUse, read_cell
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.registry.connection import connect
from kryonix.registry.errors import RegistryError
from kryonix.registry.rows import fetch_tenants
from kryonix.topology.catalog import default_catalog

_UNREACHABLE: Final = 3
_COLUMNS: Final = (
    Column("tenant", min_width=16),
    Column("plan"),
    Column("modules", min_width=14, drop_priority=2),
    Column("vhost", drop_priority=1),
    Column("queues", number=True),
    Column("connections", number=True),
    Column("messages", number=True, drop_priority=3),
    Column("broker", min_width=14),
    Column("registry", min_width=11),
)
_URLS: Final = ("management_url", "metrics_url")
_NOT_READ: Final = "not read"
_NO_PLATFORM: Final = "the stack's outputs don't name a platform. Run `kryonix status` on the platform's stack"
_REGISTRY_STATUS: Final = {"ativo": "active", "suspenso": "suspended"}
"""Translations of the registry's `status` column, for the table; JSON keeps the column's own values."""

app = typer.Typer(add_completion=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StackStatus:
    """A stack's recorded outputs, and what was read: None, with a problem, for a service that did not answer."""

    outputs: Mapping[str, Any]
    uses: Mapping[str, VhostUse] | None = None
    registered: Mapping[str, str] | None = None
    problems: Mapping[str, str] = field(default_factory=dict)


@command(app)
def status(target: StackOptions, json_output: Json = False) -> None:
    """Show the stack's tenants as the broker and the registry report them.

    Exit status 3 if one of them does not answer; its part of the table then comes from the state.
    """
    if not engine_of(target).outputs(spec_of(target), show_secrets=False):
        raise nothing_deployed(target, "has no outputs: nothing is deployed")
    found = read_status(outputs_with_platform(target, deployment_of(target)))
    if json_output:
        print_json(status_json(found))
    else:
        status_table(found, out)
    if found.problems:
        advice = Outage(target).advice()
        for problem in [advice] if advice else found.problems.values():
            print_error(problem)
        raise typer.Exit(_UNREACHABLE)


def read_status(outputs: Mapping[str, Any]) -> StackStatus:
    """Read the broker and the registry of a stack's outputs; these include its platform's."""
    uses: Mapping[str, VhostUse] | None = None
    registered: Mapping[str, str] | None = None
    problems: dict[str, str] = {}
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
                registered = {row.cliente_id: row.status for row in fetch_tenants(connection)}
        else:
            problems["registry"] = f"the registry was not read: {_NO_PLATFORM}"
    except RegistryError as error:
        problems["registry"] = str(error)
    return StackStatus(outputs=outputs, uses=uses, registered=registered, problems=problems)


def status_json(status: StackStatus) -> dict[str, Any]:
    """Return the status without secrets; null for what was not read."""
    outputs = status.outputs
    urls = {name: outputs[name] for name in _URLS if name in outputs}
    return {
        "tenants": [_tenant_json(name, tenant, status) for name, tenant in outputs["tenants"].items()],
        "broker": {"reachable": status.uses is not None, "problem": status.problems.get("broker")},
        "registry": {"reachable": status.registered is not None, "problem": status.problems.get("registry")},
        **urls,
        "amqp": f"amqp://{outputs['amqp_host']}:{int(outputs['amqp_port'])}",
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
        "recorded_queues": int(tenant["queues"]),
        "max_queues": plans[tenant["plan"]].limits.max_queues if tenant["plan"] in plans else None,
        "connections": use.connections if use else None,
        "max_connections": use.max_connections if use else None,
        "messages": use.messages if use else None,
        "registry": None if status.registered is None else status.registered.get(name, "absent"),
    }


def status_table(status: StackStatus, console: Console) -> None:
    """Print the tenants and the addresses."""
    shown = status_json(status)
    title = f"{len(status.outputs['tenants'])} tenant(s)"
    if status.problems:
        title += f"; {' and '.join(status.problems)} did not answer: showing the recorded state instead"
    tenants = sorted(shown["tenants"], key=lambda tenant: str(tenant["id"]))
    console.print(responsive_table(title, _COLUMNS, map(_row, tenants), console))
    for name in (*_URLS, "amqp"):
        if name in shown:
            console.print(f"{name.removesuffix('_url'):<11}{shown[name]}", soft_wrap=True)


def _row(tenant: Mapping[str, Any]) -> list[str]:
    def figure(number: int | None) -> str:
        return "?" if number is None else f"{number:,}"

    queues = tenant["recorded_queues"] if tenant["queues"] is None else tenant["queues"]
    return [
        tenant["id"],
        tenant["plan"],
        modules_text(tenant["modules"], default_catalog()),
        tenant["vhost"],
        f"{queues} of {tenant['max_queues']}",
        f"{figure(tenant['connections'])} of {figure(tenant['max_connections'])}",
        figure(tenant["messages"]),
        _broker_text(tenant),
        _NOT_READ if tenant["registry"] is None else _REGISTRY_STATUS.get(tenant["registry"], tenant["registry"]),
    ]


def _broker_text(tenant: Mapping[str, Any]) -> str:
    if tenant["vhost_present"] is None:
        return _NOT_READ
    if not tenant["vhost_present"]:
        return "[red]vhost gone[/red]"
    if tenant["queues"] != tenant["recorded_queues"]:
        return f"[red]{tenant['recorded_queues']} queues recorded[/red]"
    return "closed" if tenant["max_connections"] == 0 else "open"
