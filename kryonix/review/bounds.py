"""The bounds that hold for a queue: what its policy and its operator policy say together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from kryonix.topology.expansion import Topology
from kryonix.topology.objects import Policy

__all__ = ["BOUNDS", "Bound", "bounds"]

BOUNDS: Final = ("max-length", "max-length-bytes", "delivery-limit")
"""The keys of a policy that bound something."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A bound, and the policy that it comes from."""

    value: int
    policy: Policy


def bounds(topology: Topology) -> Mapping[tuple[str, str], Bound]:
    """Every queue's bounds, by the queue's name and the policy's key.

    Of each kind the policy of the highest priority applies, and of both kinds the smaller number holds. A negative one
    bounds nothing.
    """
    ordered = sorted(topology.policies, key=lambda policy: -policy.priority)
    kinds = [[(re.compile(p.pattern), p) for p in ordered if p.kind == kind] for kind in ("policy", "operator")]
    found: dict[tuple[str, str], Bound] = {}
    for queue in topology.queues:
        for policy in _applied(queue.name, kinds):
            for key in BOUNDS:
                value, known = policy.definition.get(key), found.get((queue.name, key))
                if isinstance(value, int) and value >= 0 and (known is None or value < known.value):
                    found[queue.name, key] = Bound(value, policy)
    return found


def _applied(queue: str, kinds: Sequence[Sequence[tuple[re.Pattern[str], Policy]]]) -> Iterator[Policy]:
    for policies in kinds:
        first = next((policy for pattern, policy in policies if pattern.search(queue)), None)
        if first is not None:
            yield first
