"""The rules: what in a tenant's difference a guardrail is there for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from kryonix.review.bounds import BOUNDS, Bound, bounds
from kryonix.review.differences import TenantDifference
from kryonix.review.guardrails import Finding, Guardrail
from kryonix.topology.capacity import expand_within_plans
from kryonix.topology.catalog import Catalog
from kryonix.topology.comparison import Change
from kryonix.topology.errors import CapacityExceeded
from kryonix.topology.expansion import Topology
from kryonix.topology.objects import OPERATOR_POLICY, POLICY
from kryonix.topology.tenants import Tenant

__all__ = ["find", "misfit"]

_NOTHING: Final = "^$"
_EVERYTHING: Final = ("", ".*", "^.*", ".*$", "^.*$")
_TOKEN: Final = re.compile(r"\\.|\[\^?\]?[^\]]*\]|.", re.DOTALL)
"""One part of a pattern: an escaped character, a class of characters, or any other character."""
_FOREIGN: Final = ("cliente_other", "cliente_other.crm.leads.create", "amq.topic", "amq.default")


def find(difference: TenantDifference) -> Iterator[Finding]:
    """Everything in one tenant's difference that has to be meant. Whether it fits its plan is `misfit`'s."""
    was, now = difference.before, difference.after
    if now is None:
        queues = len(difference.lost)
        message = f"the tenant is removed with {queues} queues and every message in them"
        yield Finding(Guardrail.tenant_removed, difference.tenant, difference.tenant, message)
    elif was is not None:
        yield from _queues(difference)
        yield from _permissions(was, now)
        yield from _limits(was, now)
        if any(_may_lift(change) for change in difference.changes):
            yield from _policies(was, now)


def misfit(tenant: Tenant, catalog: Catalog) -> Finding | None:
    """What there is to say where a tenant's modules don't fit its plan."""
    try:
        expand_within_plans([tenant], catalog, "")
    except CapacityExceeded as error:
        return Finding(Guardrail.plan_does_not_fit, tenant.id, tenant.plan, error.problems[0].message)
    return None


def _queues(difference: TenantDifference) -> Iterator[Finding]:
    for change in difference.lost:
        verb = "deleted" if change.action == "remove" else "replaced, because a queue's arguments can't change"
        message = f"the queue is {verb}: the messages in it are lost"
        yield Finding(Guardrail.queue_lost, difference.tenant, change.name, message)


def _permissions(was: Topology, now: Topology) -> Iterator[Finding]:
    for right in ("configure", "write", "read"):
        old, new = getattr(was.permissions, right), getattr(now.permissions, right)
        if not _no_wider(old, new):
            reach = _newly_reached(old, new, was, now)
            shown = f", which reaches '{reach}' too" if reach else ", which can't be shown to reach no more"
            message = f"the right to {right} was '{old}' and is '{new}'{shown}"
            yield Finding(Guardrail.permission_widened, now.tenant.id, right, message)


def _no_wider(old: str, new: str) -> bool:
    """Return True if a pattern certainly allows no more than another: patterns can't be compared in general."""
    return new in (old, _NOTHING) or old in _EVERYTHING or new in _narrowings(old)


def _narrowings(pattern: str) -> Iterator[str]:
    """Yield a pattern with the alternatives of one of its groups cut down to a single one."""
    for start, end, alternatives in _groups(pattern):
        if len(alternatives) > 1 and pattern[end : end + 1] not in ("*", "+", "?", "{"):
            yield from (f"{pattern[:start]}{alternative}{pattern[end:]}" for alternative in alternatives)


def _groups(pattern: str) -> Iterator[tuple[int, int, list[str]]]:
    """Yield every plain group, `(a|b)`, outside of others such as `(?!a)`: where it begins and ends, and its parts."""
    opened: list[tuple[int, list[int]]] = []
    for token in _TOKEN.finditer(pattern):
        if token[0] == "(":
            opened.append((token.start(), []))
        elif token[0] == "|" and opened:
            opened[-1][1].append(token.start())
        elif token[0] == ")" and opened:
            start, bars = opened.pop()
            if all(pattern[each + 1] != "?" for each in (start, *(outer for outer, _ in opened))):
                edges = [start, *bars, token.start()]
                yield start, token.end(), [pattern[a + 1 : b] for a, b in pairwise(edges)]


def _newly_reached(old: str, new: str, was: Topology, now: Topology) -> str | None:
    """A name that the new pattern allows and the old one did not, among the tenant's own and some of others."""
    names = [thing.name for side in (was, now) for things in (side.exchanges, side.queues) for thing in things]
    try:
        before, after = re.compile(old), re.compile(new)
    except re.error:
        return None
    candidates = (*names, *_FOREIGN)
    return next((name for name in candidates if after.search(name) and not before.search(name)), None)


def _limits(was: Topology, now: Topology) -> Iterator[Finding]:
    """A plan's limits that rise. A customer that buys a larger plan gets what it has paid for."""
    if was.tenant.plan != now.tenant.plan:
        return
    for name, old in was.limits.model_dump().items():
        new = getattr(now.limits, name, None)
        if new is None or new > old:
            yield _lifted(now, name, old, new)


def _may_lift(change: Change) -> bool:
    """Whether a policy gives up a bound, or raises it; what holds for the queues is looked at only then."""
    if change.kind not in (POLICY.name, OPERATOR_POLICY.name) or change.action not in ("change", "remove"):
        return False
    old, new = change.before.definition, change.after.definition if change.after else {}
    moved = (change.before.pattern, change.before.priority) != (
        (change.after.pattern, change.after.priority) if change.after else None
    )
    return moved or any(key in old and (key not in new or new[key] > old[key] or new[key] < 0) for key in BOUNDS)


def _policies(was: Topology, now: Topology) -> Iterator[Finding]:
    """Bounds of queues that are there before and after: one finding for the policy that each of them came from."""
    before, after, kept = bounds(was), bounds(now), {queue.name for queue in now.queues}
    told = set()
    for (queue, key), old in before.items():
        new, what = after.get((queue, key)), f"{old.policy.name} {key}"
        if queue in kept and what not in told and _is_lifted(key, old, new, was.tenant.plan == now.tenant.plan):
            told.add(what)
            yield _lifted(now, what, old.value, None if new is None else new.value)


def _is_lifted(key: str, old: Bound, new: Bound | None, same_plan: bool) -> bool:
    if new is None:
        return True
    # More deliveries before a message is a dead letter take nothing of the broker; only deliveries without end do.
    paid = old.policy.kind == "operator" and not same_plan
    return new.value > old.value and key != "delivery-limit" and not paid


def _lifted(now: Topology, name: str, old: int, new: int | None) -> Finding:
    message = (
        f"the limit was {old} and is gone" if new is None else f"the limit was {old} and is {new} on the same plan"
    )
    return Finding(Guardrail.limit_lifted, now.tenant.id, name, message)
