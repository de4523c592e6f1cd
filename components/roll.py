"""Roll: the nodes of a cluster whose containers may change in this run."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi

from components.errors import ClusterNeedsGrow, ClusterNeedsRoll, InvalidStack
from kryonix.cluster.nodes import ROLL_VARIABLE

_NUMBERS: Final = r"\d(?:,\d)*"
_VALUE: Final = re.compile(rf"(?P<nodes>{_NUMBERS})?(?:\+(?P<settled>{_NUMBERS}))?|grow:(?P<size>\d)")


@dataclass(frozen=True, kw_only=True)
class Roll:
    """The numbers of the nodes, or the size to which the cluster grows; neither in a run that others started."""

    nodes: frozenset[int] = frozenset()
    """A preview may show all at once what an `up` does to one after the other."""
    settled: frozenset[int] = frozenset()
    """Those whose containers have this run's inputs already: the outputs say so after it."""
    size: int = 0

    @classmethod
    def load(cls) -> Roll:
        """Read the environment. Raises InvalidStack."""
        value = os.environ.get(ROLL_VARIABLE, "")
        found = _VALUE.fullmatch(value)
        if found is None:
            remedy = "Unset it, and use `kryonix cluster roll` or `kryonix cluster grow`, which set it"
            raise InvalidStack(f"{ROLL_VARIABLE}: {value!r} is neither numbers of nodes nor a size. {remedy}")
        roll = cls(nodes=_numbers(found["nodes"]), settled=_numbers(found["settled"]), size=int(found["size"] or 0))
        if len(roll.nodes) > 1 and not pulumi.runtime.is_dry_run():
            raise InvalidStack(
                f"{ROLL_VARIABLE}: {value!r} lets a run replace {len(roll.nodes)} nodes at once, and stop their "
                "queues. Nothing has been changed. Unset it, and use `kryonix cluster roll`, which names one at a time"
            )
        return roll

    def kept(self, stack: str, digests: Mapping[int, str], outputs: Mapping[str, Any]) -> dict[int, str]:
        """Return the nodes whose containers stay as they are, with the digests of their inputs.

        `digests` are those of this run's inputs by node, `outputs` the stack's of the last run. An engine would replace
        the containers of all nodes at once. Raises ClusterNeedsRoll or ClusterNeedsGrow before anything changes.
        """
        if not outputs:
            return {}
        before: Sequence[Mapping[str, Any]] = outputs.get("broker_nodes") or [{}]  # an older version had one node
        if len(before) != len(digests):
            self._refuse_size(stack, len(before), len(digests))
        if len(digests) == 1 or len(before) == 1:
            return {}  # a node alone has no others to wait for: it gets a new configuration to become one of three
        recorded = {number: str(entry.get("digest")) for number, entry in enumerate(before, 1)}
        changed = [number for number, digest in recorded.items() if digest != digests[number]]
        if changed and self == Roll():
            names = ", ".join(str(before[number - 1].get("container")) for number in changed)
            raise ClusterNeedsRoll(
                f"this change would replace the containers of {len(changed)} of {len(before)} nodes at once: {names}; "
                f"nothing has been changed. Run `kryonix cluster roll --stack {stack}`, which replaces one node after "
                "the other while the others serve, or take the change back"
            )
        known = {**recorded, **{number: digests[number] for number in self.settled & recorded.keys()}}
        return {number: digest for number, digest in known.items() if number not in self.nodes}

    def growing_from(self, outputs: Mapping[str, Any]) -> int:
        """Return the number of nodes that exist while this run adds others; 0 for any other run."""
        return len(outputs.get("broker_nodes") or [{}]) if self.size and outputs else 0

    def _refuse_size(self, stack: str, before: int, now: int) -> None:
        if now < before:
            raise ClusterNeedsGrow(
                f"kryonix:brokerNodes: the cluster has {before} nodes, and can't shrink to {now}: queues would lose "
                f"members, and with them their majority. Nothing has been changed. Set it to {before} again; to use "
                "fewer nodes, move the tenants to another platform (docs/scale.md)"
            )
        if self.size != now:
            raise ClusterNeedsGrow(
                f"kryonix:brokerNodes: the broker has {before} node(s), and {now} are set; nothing has been changed. "
                f"Run `kryonix cluster grow --stack {stack} --nodes {now}`, which also gives every queue its members "
                f"on the new nodes, or set it to {before} again"
            )


def _numbers(text: str | None) -> frozenset[int]:
    return frozenset(map(int, text.split(","))) if text else frozenset()
