"""How a stack stands: what broker and registry say of its tenants now, beside what the state has as a record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console

from kryonix.cli.tables import Column, fitted, modules_text
from kryonix.fleet.cell_use import VhostUse, read_cell
from kryonix.rabbitmq.broker import BrokerUnavailable
from kryonix.registry import RegistryError, connect, fetch_tenants
from kryonix.topology.catalog import default_catalog

__all__ = ["StackStatus", "read_status", "status_json", "status_table"]

_COLUMNS: Final = (
    Column("tenant", folds=16),
    Column("plan"),
    Column("modules", folds=14, leaves=2),
    Column("vhost", leaves=1),
    Column("queues", number=True),
    Column("connections", number=True),
    Column("messages", number=True, leaves=3),
    Column("broker", folds=14),
    Column("registry", folds=11),
)
_URLS: Final = ("management_url", "metrics_url")
_NOT_READ: Final = "not read"
_NO_PLATFORM: Final = "the stack's outputs name no platform's stack. Ask for the platform's own status"


@dataclass(frozen=True, slots=True, kw_only=True)
class StackStatus:
    """A stack's outputs, which are the record, and what was read: None of what did not answer."""

    outputs: Mapping[str, Any]
    uses: Mapping[str, VhostUse] | None
    registered: Mapping[str, str] | None
    broker_problem: str = ""
    registry_problem: str = ""

    @property
    def problems(self) -> list[str]:
        return [problem for problem in (self.broker_problem, self.registry_problem) if problem]


def read_status(outputs: Mapping[str, Any]) -> StackStatus:
    """Ask broker and registry, each of which may not answer. `outputs` are the stack's, with its platform's."""
    uses, broker_problem = _uses(outputs)
    registered, registry_problem = _registered(outputs)
    return StackStatus(
        outputs=outputs,
        uses=uses,
        registered=registered,
        broker_problem=broker_problem,
        registry_problem=registry_problem,
    )


def status_json(status: StackStatus) -> dict[str, Any]:
    """The status as plain values, without a secret. What was not read is null."""
    outputs = status.outputs
    urls = {name: outputs[name] for name in _URLS if name in outputs}
    return {
        "tenants": [_tenant_json(name, tenant, status) for name, tenant in outputs["tenants"].items()],
        "broker": {"reachable": status.uses is not None, "problem": status.broker_problem or None},
        "registry": {"reachable": status.registered is not None, "problem": status.registry_problem or None},
        **urls,
        "amqp": f"amqp://{outputs['amqp_host']}:{int(outputs['amqp_port'])}",
    }


def status_table(status: StackStatus, console: Console) -> None:
    """Print the status as a table, then what did not answer."""
    shown = status_json(status)
    tenants = sorted(shown["tenants"], key=lambda tenant: str(tenant["id"]))
    console.print(fitted(_title(status), _COLUMNS, map(_row, tenants), console))
    for name in (*_URLS, "amqp"):
        if name in shown:
            console.print(f"{name.removesuffix('_url'):<11}{shown[name]}", soft_wrap=True)


def _title(status: StackStatus) -> str:
    silent = [name for name, read in (("broker", status.uses), ("registry", status.registered)) if read is None]
    title = f"{len(status.outputs['tenants'])} tenant(s)"
    if not silent:
        return title
    return f"{title}; {' and '.join(silent)} did not answer: what is shown of it is the state's record"


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


def _row(tenant: Mapping[str, Any]) -> list[str]:
    queues = tenant["recorded_queues"] if tenant["queues"] is None else tenant["queues"]
    return [
        tenant["id"],
        tenant["plan"],
        modules_text(tenant["modules"], default_catalog()),
        tenant["vhost"],
        f"{queues} of {tenant['max_queues']}",
        f"{_figure(tenant['connections'])} of {_figure(tenant['max_connections'])}",
        _figure(tenant["messages"]),
        _on_broker(tenant),
        _NOT_READ if tenant["registry"] is None else tenant["registry"],
    ]


def _figure(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _on_broker(tenant: Mapping[str, Any]) -> str:
    """What the broker says of a tenant, in few words."""
    if tenant["vhost_present"] is None:
        return _NOT_READ
    if not tenant["vhost_present"]:
        return "[red]vhost gone[/red]"
    if tenant["queues"] != tenant["recorded_queues"]:
        return f"[red]{tenant['recorded_queues']} queues recorded[/red]"
    return "closed" if tenant["max_connections"] == 0 else "open"


def _uses(outputs: Mapping[str, Any]) -> tuple[Mapping[str, VhostUse] | None, str]:
    if "admin_username" not in outputs:
        return None, f"the broker was not asked: {_NO_PLATFORM}"
    try:
        return read_cell("main", outputs), ""
    except BrokerUnavailable as error:
        return None, str(error)


def _registered(outputs: Mapping[str, Any]) -> tuple[Mapping[str, str] | None, str]:
    if not outputs.get("registry_dsn"):
        return None, f"the registry was not asked: {_NO_PLATFORM}"
    try:
        with connect(outputs["registry_dsn"]) as connection:
            return {row.cliente_id: row.status for row in fetch_tenants(connection)}, ""
    except RegistryError as error:
        return None, str(error)
