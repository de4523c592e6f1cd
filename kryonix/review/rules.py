"""The rules: what in a tenant's difference a guardrail is there for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from kryonix.review.differences import TenantDifference
from kryonix.review.guardrails import Finding, Guardrail
from kryonix.topology.capacity import expand_within_plans
from kryonix.topology.catalog import Catalog
from kryonix.topology.comparison import Change
from kryonix.topology.errors import CapacityExceeded
from kryonix.topology.expansion import Topology
from kryonix.topology.policies import Policy
from kryonix.topology.tenants import Tenant

__all__ = ["find", "misfit"]

_BOUNDS: Final = ("max-length", "max-length-bytes", "delivery-limit", "max-age")
_NOTHING: Final = "^$"
_EVERYTHING: Final = ("", ".*", "^.*", ".*$", "^.*$")


def find(difference: TenantDifference) -> Iterator[Finding]:
    """Everything in one tenant's difference that has to be meant. Whether it fits its plan is `misfit`'s."""
    if difference.after is None:
        queues = len(difference.lost)
        message = f"the tenant is removed with {queues} queues and every message in them"
        yield Finding(Guardrail.tenant_removed, difference.tenant, difference.tenant, message)
        return
    yield from _queues(difference)
    yield from _permissions(difference)
    if difference.before is not None:
        yield from _limits(difference, difference.before, difference.after)


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


def _permissions(difference: TenantDifference) -> Iterator[Finding]:
    was, now = difference.before, difference.after
    if was is None or now is None:
        return
    for right in ("configure", "write", "read"):
        old, new = getattr(was.permissions, right), getattr(now.permissions, right)
        if not _no_wider(old, new):
            reach = _newly_reached(old, new, was, now)
            shown = f"; it now reaches {reach!r}" if reach else " and can't be shown to reach no more than before"
            message = f"the right to {right} was {old!r} and is {new!r}{shown}"
            yield Finding(Guardrail.permission_widened, difference.tenant, right, message)


def _no_wider(old: str, new: str) -> bool:
    """Whether a pattern certainly allows no more than another: patterns can't be compared in general."""
    return new in (old, _NOTHING) or old in _EVERYTHING


def _newly_reached(old: str, new: str, was: Topology, now: Topology) -> str | None:
    """A name that the new pattern allows and the old one did not, among the tenant's own and two of others."""
    objects = (thing.name for topology in (was, now) for thing in (*topology.exchanges, *topology.queues))
    try:
        before, after = re.compile(old), re.compile(new)
    except re.error:
        return None
    candidates = (*objects, "cliente_other", "amq.topic")
    return next((name for name in candidates if after.search(name) and not before.search(name)), None)


def _limits(difference: TenantDifference, was: Topology, now: Topology) -> Iterator[Finding]:
    """Limits that rise while the plan stays. A customer that buys a larger plan gets what it has paid for."""
    if was.tenant.plan == now.tenant.plan:
        for name, old in was.limits.model_dump().items():
            if (new := getattr(now.limits, name, None)) is None or new > old:
                yield _lifted(difference, name, old, new)
    for change in difference.changes:
        if change.kind == "policy" and change.action in ("change", "remove"):
            yield from _policy(difference, change, same_plan=was.tenant.plan == now.tenant.plan)


def _policy(difference: TenantDifference, change: Change, *, same_plan: bool) -> Iterator[Finding]:
    old: Mapping[str, Any] = change.before.definition
    new = change.after.definition if change.after else _successor(difference, change.before)
    if new is None:
        return
    for key in _BOUNDS:
        if key not in old:
            continue
        raised = key in new and new[key] > old[key] and (same_plan or change.before.kind != "operator")
        if raised or key not in new:
            yield _lifted(difference, f"{change.name} {key}", old[key], new.get(key))


def _successor(difference: TenantDifference, gone: Policy) -> Mapping[str, Any] | None:
    """What holds now where a policy is gone; None where its queues are gone too, as with a module."""
    now = difference.after
    if now is None or not any(re.search(gone.pattern, queue.name) for queue in now.queues):
        return None
    heirs = (policy for policy in now.policies if (policy.kind, policy.pattern) == (gone.kind, gone.pattern))
    return next((policy.definition for policy in heirs), {})


def _lifted(difference: TenantDifference, name: str, old: Any, new: Any) -> Finding:
    message = f"the limit was {old} and is {'gone' if new is None else new}, on the same plan"
    return Finding(Guardrail.limit_lifted, difference.tenant, name, message)
