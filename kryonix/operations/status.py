"""How a stack stands: its tenants, what they use of their plans, and what the registry says of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rich.console import Console

from kryonix.operations.tables import Column, fitted, modules_text
from kryonix.registry import connect, fetch_tenants
from kryonix.topology.catalog import default_catalog

__all__ = ["status_json", "status_table"]

_COLUMNS: Final = (
    Column("tenant", folds=16),
    Column("plan"),
    Column("modules", folds=14),
    Column("vhost", leaves=1),
    Column("queues", number=True),
    Column("registry"),
)
_URLS: Final = ("management_url", "metrics_url")


def status_json(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the status as plain values, without a secret. Raises RegistryUnavailable or RegistryRefused.

    `registry` is None where the stack's outputs lead to no registry, so that it was not asked.
    """
    registered = _registered(outputs.get("registry_dsn"))
    plans = default_catalog().plans
    tenants = [
        {
            "id": name,
            "plan": tenant["plan"],
            "modules": tenant["modules"],
            "vhost": tenant["vhost"],
            "queues": int(tenant["queues"]),
            "max_queues": plans[tenant["plan"]].limits.max_queues if tenant["plan"] in plans else None,
            "registry": None if registered is None else registered.get(name, "absent"),
        }
        for name, tenant in outputs["tenants"].items()
    ]
    urls = {name: outputs[name] for name in _URLS if name in outputs}
    return {"tenants": tenants, **urls, "amqp": f"amqp://{outputs['amqp_host']}:{int(outputs['amqp_port'])}"}


def _registered(dsn: str | None) -> dict[str, str] | None:
    if not dsn:
        return None
    with connect(dsn) as connection:
        return {row.cliente_id: row.status for row in fetch_tenants(connection)}


def status_table(outputs: Mapping[str, Any], console: Console) -> None:
    """Print the status as a table."""
    status = status_json(outputs)
    catalog = default_catalog()
    rows = (
        (
            tenant["id"],
            tenant["plan"],
            modules_text(tenant["modules"], catalog),
            tenant["vhost"],
            f"{tenant['queues']} of {tenant['max_queues']}",
            tenant["registry"] or "not asked",
        )
        for tenant in sorted(status["tenants"], key=lambda tenant: str(tenant["id"]))
    )
    console.print(fitted(f"{len(status['tenants'])} tenant(s)", _COLUMNS, rows, console))
    for name in (*_URLS, "amqp"):
        if name in status:
            console.print(f"{name.removesuffix('_url'):<11}{status[name]}", soft_wrap=True)
