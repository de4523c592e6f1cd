"""The figures of a tenant's queues."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kryonix.topology.catalog import Catalog
from kryonix.topology.naming import PRIORITIES, Names

__all__ = ["QueueKind", "QueueStats", "read_stats"]

QueueKind = Literal["action", "lane", "retry", "dead-letter", "unrouted", "other"]


@dataclass(frozen=True, slots=True)
class QueueStats:
    """One queue as the broker saw it some seconds ago. Rates are messages per second."""

    name: str
    module: str | None
    action: str | None
    kind: QueueKind
    depth: int
    """Ready and unacked."""
    ready: int
    unacked: int
    consumers: int
    publish_rate: float
    deliver_rate: float
    ack_rate: float


def read_stats(figures: Mapping[str, Any], names: Names, catalog: Catalog) -> QueueStats:
    """One queue of the management API. A queue it has no figures of yet counts as empty, as it was just made."""
    name = str(figures["name"])
    module, action, kind = _identity(name, names, catalog)
    rates = figures.get("message_stats") or {}
    return QueueStats(
        name=name,
        module=module,
        action=action,
        kind=kind,
        depth=figures.get("messages") or 0,
        ready=figures.get("messages_ready") or 0,
        unacked=figures.get("messages_unacknowledged") or 0,
        consumers=figures.get("consumers") or 0,
        publish_rate=_rate(rates, "publish_details"),
        deliver_rate=_rate(rates, "deliver_get_details"),
        ack_rate=_rate(rates, "ack_details"),
    )


def _rate(rates: Mapping[str, Any], name: str) -> float:
    return float((rates.get(name) or {}).get("rate") or 0.0)


def _identity(name: str, names: Names, catalog: Catalog) -> tuple[str | None, str | None, QueueKind]:
    if name == names.unrouted:
        return None, None, "unrouted"
    for module, of_module in catalog.modules.items():
        for action in of_module.actions:
            queue = names.queue(module, action)
            if name == queue:
                return module, action, "action"
            if name == names.dead_letter_queue(module, action):
                return module, action, "dead-letter"
            if name.startswith(f"{queue}."):
                kind = _kind_of_suffix(name.removeprefix(f"{queue}."))
                if kind is not None:
                    return module, action, kind
    return None, None, "other"


def _kind_of_suffix(suffix: str) -> QueueKind | None:
    lane, _, rest = suffix.partition(".")
    if suffix in PRIORITIES:
        return "lane"
    retry = rest if lane in PRIORITIES else suffix
    return "retry" if retry.startswith("retry.") and retry.removeprefix("retry.").isdigit() else None
