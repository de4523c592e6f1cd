"""Whether a tenant's modules fit its plan, and what to do when they don't."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from kryonix.topology.catalog import Catalog, Limits
from kryonix.topology.document import parse
from kryonix.topology.errors import CapacityExceeded, Problem
from kryonix.topology.expansion import Topology, expand
from kryonix.topology.tenants import Tenant, parse_tenants

__all__ = ["Use", "expand_file", "expand_within_plans", "smallest_plan", "to_remove", "use"]


_BYTES: Final = "max-length-bytes"


@dataclass(frozen=True, slots=True)
class Use:
    """What a tenant takes of its plan. `bytes` is what its queues may hold in message bodies, full to their bounds."""

    queues: int
    exchanges: int
    queues_by_module: dict[str, int]
    bytes: int = 0

    def fits(self, limits: Limits) -> bool:
        return self.queues <= limits.max_queues and self.exchanges <= limits.max_exchanges


def use(topology: Topology) -> Use:
    """Return what a topology takes: its queues and exchanges counted, and the bytes that its queues may hold."""
    by_module = Counter(queue.module for queue in topology.queues if queue.module is not None)
    return Use(len(topology.queues), len(topology.exchanges), dict(by_module), _most_bytes(topology))


def _most_bytes(topology: Topology) -> int:
    """Return the sum of the queues' bounds in bytes. Where several policies bound a queue, the smallest holds."""
    bounding = [
        (re.compile(policy.pattern), int(policy.definition[_BYTES]))
        for policy in topology.policies
        if _BYTES in policy.definition
    ]
    return sum(
        min((most for pattern, most in bounding if pattern.search(queue.name)), default=0) for queue in topology.queues
    )


def smallest_plan(used: Use, catalog: Catalog) -> str | None:
    """The plan with the fewest queues that fits, or None where none does."""
    fitting = [(plan.limits.max_queues, name) for name, plan in catalog.plans.items() if used.fits(plan.limits)]
    return min(fitting)[1] if fitting else None


def expand_file(content: bytes, file: str, catalog: Catalog) -> list[Topology]:
    """The topology of every tenant of a tenants.yaml.

    Raises InvalidInput with every problem of the file, or CapacityExceeded with every tenant that does not fit.
    """
    tenants = parse_tenants(content, file, catalog)
    try:
        return expand_within_plans(tenants, catalog, file)
    except CapacityExceeded as error:
        document = parse(content, file)
        lines = {tenant.id: document.line(("tenants", at, "modules")) for at, tenant in enumerate(tenants)}
        raise CapacityExceeded([replace(p, line=lines[p.tenant or ""]) for p in error.problems]) from None


def to_remove(used: Use, limits: Limits) -> tuple[str, ...]:
    """As few modules as possible whose removal makes the rest fit, and of the last the smallest that does.

    Empty where nothing fits, as a tenant has one module at least.
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


def expand_within_plans(tenants: Iterable[Tenant], catalog: Catalog, file: str) -> list[Topology]:
    """The topology of every tenant. Raises CapacityExceeded with every tenant whose modules do not fit its plan."""
    topologies = [expand(tenant, catalog) for tenant in tenants]
    problems = [
        Problem(file, None, "modules", _explain(topology, used, catalog), topology.tenant.id)
        for topology in topologies
        if not (used := use(topology)).fits(topology.limits)
    ]
    if problems:
        raise CapacityExceeded(problems)
    return topologies


def _explain(topology: Topology, used: Use, catalog: Catalog) -> str:
    limits = topology.limits
    over = [
        f"{count} {noun} of {allowed} allowed"
        for noun, count, allowed in (
            ("queues", used.queues, limits.max_queues),
            ("exchanges", used.exchanges, limits.max_exchanges),
        )
        if count > allowed
    ]
    shared = used.queues - sum(used.queues_by_module.values())
    counts = ", ".join(f"{module} {count}" for module, count in used.queues_by_module.items())
    plan = smallest_plan(used, catalog)
    remedy = f"The smallest plan that fits is {plan!r}" if plan else "No plan fits"
    shape = f"queues: {counts}, shared {shared}; exchanges: {used.exchanges}"
    remove = to_remove(used, limits)
    named = f"; or remove modules: for the plan {topology.tenant.plan!r}, {', '.join(remove)}" if remove else ""
    return f"does not fit the plan {topology.tenant.plan!r}: {' and '.join(over)} ({shape}). {remedy}{named}"
