"""The origin of a dead letter, and its headers when it goes back there. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from kryonix.messaging.message import Header, is_broker_header
from kryonix.topology.catalog import Catalog
from kryonix.topology.naming import PRIORITIES, Names, priority_name

_SPENT: Final = frozenset(
    {Header.ATTEMPTS, Header.DIED, Header.FAILURES, Header.FIRST_EXCHANGE, Header.FIRST_KEY, Header.REASON}
)
_MAX_REASON: Final = 1_000
_MAX_REDRIVES: Final = 2**31


class Origin(NamedTuple):
    """The exchange and the routing key of the first publication."""

    exchange: str
    routing_key: str


def origin(
    headers: Mapping[str, Any], priority: int, names: Names, catalog: Catalog, module: str, action: str
) -> Origin | None:
    """Return the origin of an action's dead letter, or None if it is unknown or no longer leads to the action.

    A broadcast goes back to this action alone, by the main exchange: the other actions have had it.
    """
    of_module = catalog.modules[module]
    # What the topology binds to the action; a copy for another origin would land in `unrouted`.
    leading = {Origin(names.exchange, names.routing_key(module, action, each)) for each in PRIORITIES}
    if of_module.mobile_priority:
        leading.add(Origin(names.mobile_exchange, names.mobile_key(module, action)))
    if of_module.business_critical:
        leading.add(Origin(names.critical_exchange, names.critical_key(module, action)))
    exchange, key = headers.get(Header.FIRST_EXCHANGE), headers.get(Header.FIRST_KEY)
    noted = [Origin(exchange, key)] if isinstance(exchange, str) and isinstance(key, str) else []
    for found in noted or _noted_by_broker(headers):
        if found.exchange == names.automation_exchange and of_module.ai_routing:
            return Origin(names.exchange, names.routing_key(module, action, priority_name(priority)))
        if found in leading:
            return found
    return None


def _noted_by_broker(headers: Mapping[str, Any]) -> list[Origin]:
    """Return the origins in the oldest death, the one repeated in x-first-death-*.

    A message sent with CC has several keys; at most one of them leads to the action.
    """
    deaths = deaths_of(headers)
    first = (headers.get("x-first-death-queue"), headers.get("x-first-death-reason"))
    for death in [death for death in deaths if (death.get("queue"), death.get("reason")) == first] or deaths[-1:]:
        exchange, keys = death.get("exchange"), death.get("routing-keys")
        if isinstance(exchange, str) and isinstance(keys, list):
            return [Origin(exchange, key) for key in keys if isinstance(key, str)]
    return []


def deaths_of(headers: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the broker's entries about a message's deaths, the latest first."""
    deaths = headers.get("x-death")
    return [death for death in deaths if isinstance(death, Mapping)] if isinstance(deaths, list) else []


def marked(headers: Mapping[str, Any], run: str) -> dict[str, Any]:
    """Return the headers of the copy: the message's own and the marks, without traces of failures or routing."""
    redrives = headers.get(Header.REDRIVES, 0)
    own = {name: value for name, value in headers.items() if name not in _SPENT and not is_broker_header(name)}
    return {
        **own,
        Header.REDRIVES: (redrives if isinstance(redrives, int) and 0 <= redrives < _MAX_REDRIVES else 0) + 1,
        Header.REDRIVE_RUN: run,
        Header.REDRIVE_REASON: reason_of(headers)[:_MAX_REASON],
    }


def reason_of(headers: Mapping[str, Any]) -> str:
    """Return why a message is a dead letter: the handler's words, or the broker's."""
    return str(headers.get(Header.REASON) or headers.get("x-first-death-reason") or "unknown")
