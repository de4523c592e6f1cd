"""Choose the exchange and the priority of a message."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol, runtime_checkable

from kryonix.messaging.message import Outgoing
from kryonix.routing.known import URGENT_MS, rules_priority
from kryonix.topology.catalog import Catalog, Module
from kryonix.topology.naming import Names, priority_name

log = logging.getLogger(__name__)

Exchange = Literal["main", "mobile", "critical"]

URGENT: Final = URGENT_MS / 1000
"""Seconds. A message with a shorter time to live is urgent."""
_RAISED: Final = f"; priority 8 because it expires within {URGENT:.0f} s"


@dataclass(frozen=True, slots=True)
class Decision:
    """The route of a message, and the reason in words."""

    exchange: Exchange
    priority: int
    mobile_optimized: bool
    reason: str


@runtime_checkable
class Router(Protocol):
    """Decide the route of each message. Default: `Rules`; pass your own classifier instead."""

    async def decide(self, message: Outgoing) -> Decision: ...


@dataclass(frozen=True, slots=True)
class Rules:
    """The default router: rules on module, device, priority and time to live."""

    catalog: Catalog

    async def decide(self, message: Outgoing) -> Decision:
        return self.apply(message)

    def apply(self, message: Outgoing) -> Decision:
        priority = rules_priority(message.priority, expires_ms(message))
        raised = priority != message.priority
        return self.place(message, priority, None, _RAISED if raised else "")

    def place(self, message: Outgoing, priority: int, why: str | None, further: str = "") -> Decision:
        """Return the route of a message that gets this priority, and why: by default why it gets its exchange."""
        module = self.catalog.modules[message.module]
        mobile = module.mobile_priority and message.device == "mobile"
        exchange, reason = _exchange(module, message, priority, mobile)
        return Decision(exchange, priority, mobile, f"{reason}{further}" if why is None else why)


def expires_ms(message: Outgoing) -> float | None:
    """Return the time to live given by the sender in ms, not rounded."""
    expires = message.expires
    if expires is None:
        return None
    return (expires if isinstance(expires, (int, float)) else expires.total_seconds()) * 1000


def _exchange(module: Module, message: Outgoing, priority: int, mobile: bool) -> tuple[Exchange, str]:
    lane = priority_name(priority)
    if lane in module.priority_lanes.get(message.action, ()):
        # Lanes are bound to the main exchange only.
        return "main", f"main: {message.module}.{message.action} has a lane for {lane} priority"
    if module.business_critical and priority >= 8:
        return "critical", f"critical: {message.module} is business-critical and the priority is {priority}"
    if mobile:
        return "mobile", f"mobile: sent from a mobile device to {message.module}"
    return "main", "main: nothing asks for another exchange"


@dataclass(frozen=True, slots=True)
class SafeRouter:
    """A router that cannot lose a message: if the chosen one fails or takes too long, the rules decide."""

    chosen: Router | None
    rules: Rules
    timeout: float
    """Seconds."""

    async def decide(self, message: Outgoing, within: float) -> Decision:
        """Decide within the router's timeout, and at most `within` seconds."""
        if self.chosen is None:
            return self.rules.apply(message)
        timeout = min(self.timeout, within)
        deciding = asyncio.ensure_future(self._ask(self.chosen, message))
        try:
            # Not awaited: a router ignoring its cancellation must not delay messages.
            await asyncio.wait({deciding}, timeout=timeout)
        finally:
            deciding.cancel()
        if not deciding.done():
            problem = f"the router took longer than {timeout:g} s"
        else:
            answer = deciding.result()
            if isinstance(answer, Decision):
                return answer
            problem = f"the router failed ({answer})"
        log.warning("%s.%s: %s; the rules decide", message.module, message.action, problem)
        decision = self.rules.apply(message)
        return replace(decision, reason=f"{decision.reason}; {problem}")

    async def _ask(self, router: Router, message: Outgoing) -> Decision | str:
        """Return a valid decision, or the problem."""
        try:
            return self._checked(message, await router.decide(message))
        except Exception as error:  # noqa: BLE001 - user code may raise anything; the message is sent anyway
            return f"{type(error).__name__}: {error}"
        except asyncio.CancelledError:
            return "it was cancelled"

    def _checked(self, message: Outgoing, decision: Decision) -> Decision:
        """Check a decision: an exchange without a binding to this module would lose the message to `unrouted`."""
        module = self.rules.catalog.modules[message.module]
        bound = {"main": True, "mobile": module.mobile_priority, "critical": module.business_critical}
        if not bound.get(decision.exchange, False):
            raise ValueError(f"{message.module} is not bound to the exchange {decision.exchange!r}")
        if type(decision.priority) is not int or not 0 <= decision.priority <= 10:
            raise ValueError(f"priority {decision.priority!r} is not 0 to 10")
        if type(decision.mobile_optimized) is not bool or not isinstance(decision.reason, str):
            raise ValueError("mobile_optimized is not a boolean, or the reason not text")
        return decision


def address(names: Names, message: Outgoing, decision: Decision) -> tuple[str, str]:
    """Return the exchange and the routing key of a decision."""
    if decision.exchange == "mobile":
        return names.mobile_exchange, names.mobile_key(message.module, message.action)
    if decision.exchange == "critical":
        return names.critical_exchange, names.critical_key(message.module, message.action)
    key = names.routing_key(message.module, message.action, priority_name(decision.priority))
    return names.exchange, key
