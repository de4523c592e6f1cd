"""Where a dead letter came from, and what it looks like when it goes back there: pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from kryonix.messaging.consuming.work import (
    FAILURES_HEADER,
    FIRST_EXCHANGE_HEADER,
    FIRST_KEY_HEADER,
    NOT_TAKEN_OVER,
    REASON_HEADER,
)
from kryonix.topology.catalog import Catalog
from kryonix.topology.naming import PRIORITIES, Names, priority_name

__all__ = ["REDRIVES_HEADER", "REDRIVE_REASON_HEADER", "REDRIVE_RUN_HEADER", "Origin", "marked", "origin", "run_of"]

REDRIVES_HEADER: Final = "kryonix-redrives"
"""How often a message has been put back."""
REDRIVE_RUN_HEADER: Final = "kryonix-redrive-run"
"""The run that put it back: a run never moves the same message twice."""
REDRIVE_REASON_HEADER: Final = "kryonix-redrive-reason"
"""Why it had been a dead letter."""

_SPENT: Final = frozenset(
    {
        FAILURES_HEADER,
        FIRST_EXCHANGE_HEADER,
        FIRST_KEY_HEADER,
        REASON_HEADER,
        "x-death",
        *NOT_TAKEN_OVER,
    }
)
_LONGEST_REASON: Final = 1_000
_MOST_REDRIVES: Final = 2**31
_SPENT_PREFIXES: Final = ("x-first-death-", "x-last-death-")


@dataclass(frozen=True, slots=True)
class Origin:
    """The exchange and the routing key a message is published to again."""

    exchange: str
    routing_key: str


def origin(
    headers: Mapping[str, Any], priority: int, names: Names, catalog: Catalog, module: str, action: str
) -> Origin | None:
    """Where a dead letter of an action was published first; None where it doesn't say, or says somewhere that doesn't
    lead to the action any more.

    A broadcast goes back to this action alone, by the main exchange: the others have had it.
    """
    for found in _noted(headers) or _died(headers):
        if found.exchange == names.automation_exchange and catalog.modules[module].ai_routing:
            return Origin(names.exchange, names.routing_key(module, action, priority_name(priority)))
        if _leads_to(found, names, catalog, module, action):
            return found
    return None


def _noted(headers: Mapping[str, Any]) -> list[Origin]:
    """What the SDK has written down, which it does where it moves a message itself."""
    exchange, key = headers.get(FIRST_EXCHANGE_HEADER), headers.get(FIRST_KEY_HEADER)
    return [Origin(exchange, key)] if isinstance(exchange, str) and isinstance(key, str) else []


def _died(headers: Mapping[str, Any]) -> list[Origin]:
    """What the broker has written down: the oldest death, which it names again in x-first-death-*.

    It has several keys where the sender has asked for copies by CC; at most one of them leads to the action.
    """
    deaths = headers.get("x-death")
    deaths = [death for death in deaths if isinstance(death, Mapping)] if isinstance(deaths, list) else []
    first = (headers.get("x-first-death-queue"), headers.get("x-first-death-reason"))
    for death in [death for death in deaths if (death.get("queue"), death.get("reason")) == first] or deaths[-1:]:
        exchange, keys = death.get("exchange"), death.get("routing-keys")
        if isinstance(exchange, str) and isinstance(keys, list):
            return [Origin(exchange, key) for key in keys if isinstance(key, str)]
    return []


def _leads_to(found: Origin, names: Names, catalog: Catalog, module: str, action: str) -> bool:
    """Whether the topology binds it to the action. What it doesn't bind would be confirmed, and land in `unrouted`."""
    of_module = catalog.modules[module]
    leading = {Origin(names.exchange, names.routing_key(module, action, priority)) for priority in PRIORITIES}
    if of_module.mobile_priority:
        leading.add(Origin(names.mobile_exchange, names.mobile_key(module, action)))
    if of_module.business_critical:
        leading.add(Origin(names.critical_exchange, names.critical_key(module, action)))
    return found in leading


def marked(headers: Mapping[str, Any], run: str) -> dict[str, Any]:
    """The headers it goes back with: its own and the mark, without the traces of its failures, so it starts anew, and
    without what would send it elsewhere, too."""
    redrives = headers.get(REDRIVES_HEADER, 0)
    reason = headers.get(REASON_HEADER) or headers.get("x-first-death-reason") or "unknown"
    own = {
        name: value for name, value in headers.items() if name not in _SPENT and not name.startswith(_SPENT_PREFIXES)
    }
    return {
        **own,
        REDRIVES_HEADER: (redrives if isinstance(redrives, int) and 0 <= redrives < _MOST_REDRIVES else 0) + 1,
        REDRIVE_RUN_HEADER: run,
        REDRIVE_REASON_HEADER: str(reason)[:_LONGEST_REASON],
    }


def run_of(headers: Mapping[str, Any]) -> str | None:
    """The run that has put a message back last, if any has."""
    run = headers.get(REDRIVE_RUN_HEADER)
    return run if isinstance(run, str) else None
