"""Check a tenant's modules against its plan, and suggest remedies."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from kryonix.topology.catalog import Catalog, Limits
from kryonix.topology.errors import CapacityExceeded, Problem
from kryonix.topology.expansion import Topology, expand
from kryonix.topology.tenants import Tenant, read_tenants

_BYTES: Final = "max-length-bytes"


@dataclass(frozen=True, slots=True)
class Use:
    """A tenant's use of its plan. `bytes` is the size of all message bodies with every queue full."""

    queues: int
    exchanges: int
    queues_by_module: dict[str, int]
    bytes: int = 0

    def exceeded(self, limits: Limits) -> list[tuple[str, int, int]]:
        """Return each exceeded limit: its noun, the count and the allowed number."""
        counts = (("queues", self.queues, limits.max_queues), ("exchanges", self.exchanges, limits.max_exchanges))
        return [(noun, count, allowed) for noun, count, allowed in counts if count > allowed]

    def fits(self, limits: Limits) -> bool:
        return not self.exceeded(limits)


def use(topology: Topology) -> Use:
    """Return a topology's use of its plan."""
    by_module = Counter(queue.module for queue in topology.queues if queue.module is not None)
    bounds = [
        (re.compile(policy.pattern), int(policy.definition[_BYTES]))
        for policy in topology.policies
        if _BYTES in policy.definition
    ]
    # Where several policies bound a queue, the smallest bound holds.
    most_bytes = sum(
        min((most for pattern, most in bounds if pattern.search(queue.name)), default=0) for queue in topology.queues
    )
    return Use(len(topology.queues), len(topology.exchanges), dict(by_module), most_bytes)


def smallest_plan(used: Use, catalog: Catalog) -> str | None:
    """Return the fitting plan with the fewest queues, or None."""
    fitting = [(plan.limits.max_queues, name) for name, plan in catalog.plans.items() if used.fits(plan.limits)]
    return min(fitting)[1] if fitting else None


def expand_file(content: bytes, file: str, catalog: Catalog) -> list[Topology]:
    """Return the topology of every tenant of a tenants.yaml.

    Raises InvalidInput with every problem of the file, or CapacityExceeded with every tenant too large for its plan.
    """
    tenants, document = read_tenants(content, file, catalog)
    lines = {tenant.id: document.line(("tenants", at, "modules")) for at, tenant in enumerate(tenants)}
    return expand_within_plans(tenants, catalog, file, lines)


def to_remove(used: Use, limits: Limits) -> tuple[str, ...]:
    """Return as few modules as possible whose removal makes the rest fit, the last one as small as possible.

    Empty if nothing fits: a tenant has at least one module.
    """
    queues, exchanges = used.queues - limits.max_queues, used.exchanges - limits.max_exchanges
    largest = sorted(used.queues_by_module.items(), key=lambda entry: (-entry[1], entry[0]))
    removed: list[str] = []
    while queues > 0 or exchanges > 0:
        enough = [(size, name) for name, size in largest if size >= queues and exchanges <= 1]
        name = min(enough)[1] if enough else largest[0][0] if largest else ""
        size = dict(largest).get(name, 0)
        largest = [entry for entry in largest if entry[0] != name]
        if not largest:
            return ()
        removed.append(name)
        queues, exchanges = queues - size, exchanges - 1
    return tuple(removed)


def expand_within_plans(
    tenants: Iterable[Tenant], catalog: Catalog, file: str, lines: Mapping[str, int | None] | None = None
) -> list[Topology]:
    """Return the topology of every tenant. Raises CapacityExceeded with every tenant too large for its plan."""
    topologies = [expand(tenant, catalog) for tenant in tenants]
    known = lines or {}
    problems = [
        Problem(file, known.get(each.tenant.id), "modules", _explain(each, used, catalog), each.tenant.id)
        for each in topologies
        if not (used := use(each)).fits(each.limits)
    ]
    if problems:
        raise CapacityExceeded(problems)
    return topologies


def _explain(topology: Topology, used: Use, catalog: Catalog) -> str:
    limits = topology.limits
    over = [f"{count} {noun} of {allowed} allowed" for noun, count, allowed in used.exceeded(limits)]
    shared = used.queues - sum(used.queues_by_module.values())
    counts = ", ".join(f"{module} {count}" for module, count in used.queues_by_module.items())
    plan = smallest_plan(used, catalog)
    remedy = f"The smallest plan that fits is {plan!r}" if plan else "No plan fits"
    shape = f"queues: {counts}, shared {shared}; exchanges: {used.exchanges}"
    remove = to_remove(used, limits)
    named = f"; or remove modules: for the plan {topology.tenant.plan!r}, {', '.join(remove)}" if remove else ""
    return f"does not fit the plan {topology.tenant.plan!r}: {' and '.join(over)} ({shape}). {remedy}{named}"
