"""The rules of the guardrails: for differences from a base, and for the current state of a tenant."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from kryonix.review.differences import TenantDifference
from kryonix.review.guardrails import Finding, Guardrail
from kryonix.topology.capacity import expand_within_plans, use
from kryonix.topology.catalog import Catalog
from kryonix.topology.errors import CapacityExceeded
from kryonix.topology.expansion import Topology
from kryonix.topology.naming import Names, stats_user
from kryonix.topology.objects import OPERATOR_POLICY, POLICY, Permissions, Policy
from kryonix.topology.tenants import Tenant

_NOTHING: Final = "^$"
_EVERYTHING: Final = ("", ".*", "^.*", ".*$", "^.*$")
_TOKEN: Final = re.compile(r"\\.|\[\^?\]?[^\]]*\]|.", re.DOTALL)
"""One part of a pattern: an escaped character, a class of characters, or any other character."""
_FOREIGN: Final = ("cliente_other", "cliente_other.crm.leads.create", "amq.topic", "amq.default")
_LENGTHS: Final = ("max-length", "max-length-bytes")
_BOUNDS: Final = (*_LENGTHS, "delivery-limit")
"""The keys of a policy for bounds."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A bound of a queue, and its policy."""

    value: int
    policy: Policy


@dataclass(frozen=True, slots=True)
class CurrentState:
    """A tenant as registered by the program, with details missing in an expansion."""

    topology: Topology
    rights: Mapping[str, Permissions]
    """Permissions in the tenant's vhost of each user except the administrator."""
    unlimited: tuple[str, ...] = ()
    """Unset limits, such as `vhost max_connections`."""
    transient: Mapping[str, str] = field(default_factory=dict)
    """Queues deleted by the broker itself, with the reason."""


def find(difference: TenantDifference) -> Iterator[Finding]:
    """Yield every finding in one tenant's difference, except those of `misfit`."""
    was, now = difference.before, difference.after
    if now is None:
        queues = len(difference.lost)
        message = f"the tenant is removed with {queues} queues and every message in them"
        yield Finding(Guardrail.tenant_removed, difference.tenant, difference.tenant, message)
    elif was is not None:
        for change in difference.lost:
            verb = "deleted" if change.action == "remove" else "replaced, because a queue's arguments can't change"
            message = f"the queue is {verb}: the messages in it are lost"
            yield Finding(Guardrail.queue_lost, difference.tenant, change.name, message)
        yield from _wider_permissions(was, now)
        yield from _raised_limits(was, now)
        policies = [change for change in difference.changes if change.kind in (POLICY.name, OPERATOR_POLICY.name)]
        if any(_reach(change.before) != _reach(change.after) for change in policies):
            yield from _raised_bounds(was, now)


def misfit(tenant: Tenant, catalog: Catalog) -> Finding | None:
    """Return a finding if a tenant's modules don't fit its plan."""
    try:
        expand_within_plans([tenant], catalog, "")
    except CapacityExceeded as error:
        return Finding(Guardrail.plan_does_not_fit, tenant.id, tenant.plan, error.problems[0].message)
    return None


def bounds(topology: Topology) -> Mapping[tuple[str, str], Bound]:
    """Return every queue's bounds, by the queue's name and the policy's key.

    Of each kind, the policy of the highest priority applies; of the two kinds, the smaller number. A negative number
    bounds nothing.
    """
    ordered = sorted(topology.policies, key=lambda policy: -policy.priority)
    kinds = [[(re.compile(p.pattern), p) for p in ordered if p.kind == kind] for kind in ("policy", "operator")]
    found: dict[tuple[str, str], Bound] = {}
    for queue in topology.queues:
        applied = [next((p for pattern, p in policies if pattern.search(queue.name)), None) for policies in kinds]
        for policy in filter(None, applied):
            for key in _BOUNDS:
                value, known = policy.definition.get(key), found.get((queue.name, key))
                if isinstance(value, int) and value >= 0 and (known is None or value < known.value):
                    found[queue.name, key] = Bound(value, policy)
    return found


def _wider_permissions(was: Topology, now: Topology) -> Iterator[Finding]:
    for right in ("configure", "write", "read"):
        old, new = getattr(was.permissions, right), getattr(now.permissions, right)
        # Patterns can't be compared in general: only these certainly allow no more than the old one.
        if new not in (old, _NOTHING, *_narrowings(old)) and old not in _EVERYTHING:
            reach = _newly_reached(old, new, was, now)
            shown = f", which reaches '{reach}' too" if reach else ", which can't be shown to reach no more"
            message = f"the right to {right} was '{old}' and is '{new}'{shown}"
            yield Finding(Guardrail.permission_widened, now.tenant.id, right, message)


def _narrowings(pattern: str) -> Iterator[str]:
    """Yield a pattern with the alternatives of one of its groups cut down to a single one."""
    for start, end, alternatives in _groups(pattern):
        if len(alternatives) > 1 and pattern[end : end + 1] not in ("*", "+", "?", "{"):
            yield from (f"{pattern[:start]}{alternative}{pattern[end:]}" for alternative in alternatives)


def _groups(pattern: str) -> Iterator[tuple[int, int, list[str]]]:
    """Yield every plain group, `(a|b)`, outside of others such as `(?!a)`: its start, end and parts."""
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
    """Return a name matched only by the new pattern, among the tenant's own and some foreign ones."""
    names = [each.name for side in (was, now) for objects in (side.exchanges, side.queues) for each in objects]
    try:
        before, after = re.compile(old), re.compile(new)
    except re.error:
        return None
    candidates = (*names, *_FOREIGN)
    return next((name for name in candidates if after.search(name) and not before.search(name)), None)


def _raised_limits(was: Topology, now: Topology) -> Iterator[Finding]:
    """Yield the plan's raised limits. A customer may buy a larger plan."""
    if was.tenant.plan != now.tenant.plan:
        return
    for name, old in was.limits.model_dump().items():
        new = getattr(now.limits, name, None)
        if new is None or new > old:
            yield _lifted(now, name, old, new)


def _reach(policy: Policy | None) -> tuple[object, ...]:
    """Return what decides a policy's bounds: only if that differs, the bounds of all queues are compared."""
    return (policy.pattern, policy.priority, *map(policy.definition.get, _BOUNDS)) if policy else ()


def _raised_bounds(was: Topology, now: Topology) -> Iterator[Finding]:
    """Yield raised bounds of queues on both sides, one finding per policy and key."""
    before, after, kept = bounds(was), bounds(now), {queue.name for queue in now.queues}
    same_plan, seen = was.tenant.plan == now.tenant.plan, set()
    for (queue, key), old in before.items():
        new, name = after.get((queue, key)), f"{old.policy.name} {key}"
        # A higher delivery limit costs the broker nothing, only unlimited deliveries do; a larger plan pays for more.
        free = key == "delivery-limit" or (old.policy.kind == "operator" and not same_plan)
        lifted = new is None or (new.value > old.value and not free)
        if lifted and queue in kept and name not in seen:
            seen.add(name)
            yield _lifted(now, name, old.value, None if new is None else new.value)


def _lifted(now: Topology, name: str, old: int, new: int | None) -> Finding:
    change = "is gone" if new is None else f"is {new} on the same plan"
    return Finding(Guardrail.limit_lifted, now.tenant.id, name, f"the limit was {old} and {change}")


def state_findings(state: CurrentState) -> Iterator[Finding]:
    """Yield every broken rule of a tenant's current state. Objects are named as in findings of `find`."""
    topology = state.topology
    names = topology.tenant.names
    for queue in topology.queues:
        if (kind := queue.arguments.get("x-queue-type")) != "quorum":
            message = f"the queue's type is {kind!r}, not 'quorum': its messages are lost with the node that holds them"
            yield Finding(Guardrail.queue_lost, names.tenant_id, queue.name, message)
        if queue.name in state.transient:
            message = f"the queue {state.transient[queue.name]}: the messages in it are lost then"
            yield Finding(Guardrail.queue_lost, names.tenant_id, queue.name, message)
    for noun, count, allowed in use(topology).exceeded(topology.limits):
        message = f"{count} {noun} where {allowed} are allowed. Choose a larger plan or fewer modules"
        yield Finding(Guardrail.plan_does_not_fit, names.tenant_id, topology.tenant.plan, message)
    for user, rights in state.rights.items():
        yield from _excessive_rights(names, user, rights)
    for name in state.unlimited:
        message = f"nothing sets the limit {name}. Every tenant's vhost and user has one"
        yield Finding(Guardrail.limit_lifted, names.tenant_id, name, message)
    bounded = {queue for queue, key in bounds(topology) if key in _LENGTHS}
    boundless = [queue.name for queue in topology.queues if queue.name not in bounded]
    if boundless:
        several = f" and {len(boundless) - 1} more" if len(boundless) > 1 else ""
        message = f"no policy limits the length of the queue {boundless[0]!r}{several}"
        yield Finding(Guardrail.limit_lifted, names.tenant_id, f"{names.scaling_policy} max-length", message)


def _excessive_rights(names: Names, user: str, rights: Permissions) -> Iterator[Finding]:
    allowed = {"configure": _NOTHING, "write": names.writable_objects, "read": names.readable_objects}
    application = user.removesuffix(stats_user(""))
    if application != user:
        allowed = dict.fromkeys(allowed, _NOTHING)
    generation = application.removeprefix(f"{names.user}.")
    if application != names.user and not (generation.isdecimal() and application == names.user_of(int(generation))):
        message = f"the user {user!r} has rights in {names.vhost!r} and is not the tenant's. Revoke them"
        yield Finding(Guardrail.permission_widened, names.tenant_id, user, message)
        return
    for right, most in allowed.items():
        pattern = getattr(rights, right)
        if pattern not in (most, _NOTHING):
            message = f"the right to {right} is {pattern!r}, where the names of this tenant allow {most!r}"
            yield Finding(Guardrail.permission_widened, names.tenant_id, right, message)
