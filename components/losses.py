"""Refuse changes that would delete messages, with the number of messages in each queue."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from components.errors import MessagesWouldBeLost, OldestMessagesWouldBeLost
from kryonix.rabbitmq.broker import Filling, QueueState
from kryonix.topology.expansion import Topology
from kryonix.topology.objects import Definition
from kryonix.topology.ownership import accepted

AFTER_AN_UP: Final = "run `up` (`kryonix up` or `pulumi up`), and run this again"
"""Remedy where the program does not run: a resource being deleted knows only the last `up`'s config."""


def refuse_losses(counted: Iterable[QueueState], allow_delete: Collection[str], remedy: str = "and run again") -> None:
    """Raise MessagesWouldBeLost if queues about to be deleted hold messages whose loss is not accepted."""
    held = [queue for queue in counted if queue.messages and not accepted(queue.name, allow_delete)]
    if not held:
        return
    counts = "\n".join(f"  {queue.messages:,} messages in {queue.name} (vhost {queue.vhost})" for queue in held)
    raise MessagesWouldBeLost(
        f"this change would delete {len(held)} queue(s) that still hold messages; nothing has been changed:\n{counts}\n"
        f"Consume or move them first, or accept the loss in the stack's config, {remedy}:\n"
        f"  kryonix:allowDelete: [{', '.join(dict.fromkeys([*allow_delete, *(queue.name for queue in held)]))}]",
        _by_name(held),
    )


def refuse_trims(fillings: Iterable[Filling], topologies: Sequence[Topology], allow_delete: Collection[str]) -> None:
    """Raise OldestMessagesWouldBeLost if a changed policy would make a queue drop its oldest messages."""
    bounds = {(t.vhost, name): bound for t in topologies for name, bound in _dropping(t).items()}
    over = [
        filling
        for filling in fillings
        if (bound := bounds.get((filling.vhost, filling.name))) is not None
        and not accepted(filling.name, allow_delete)
        and (
            _trims(filling.messages, bound, filling.policy, "max-length")
            or _trims(filling.message_bytes, bound, filling.policy, "max-length-bytes")
        )
    ]
    if not over:
        return
    counts = "\n".join(
        f"  {f.messages:,} messages in {f.name} (vhost {f.vhost}), {f.message_bytes:,} bytes" for f in over
    )
    raise OldestMessagesWouldBeLost(
        f"this change would delete the oldest messages of {len(over)} queue(s), which hold more than their policy will "
        f"allow; nothing has been changed:\n{counts}\n"
        f"Consume or move them first, or accept the loss in the stack's config, and run again:\n"
        f"  kryonix:allowDelete: [{', '.join(dict.fromkeys([*allow_delete, *(f.name for f in over)]))}]",
        _by_name(over),
    )


def _by_name(queues: Iterable[QueueState | Filling]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for queue in queues:
        counts[queue.name] += queue.messages
    return dict(counts)


def _dropping(topology: Topology) -> dict[str, Definition]:
    """Return the queues that drop their oldest messages at a limit, with their policy's definition."""
    found: dict[str, Definition] = {}
    for queue in topology.queues:
        policy = max(
            (p for p in topology.policies if p.kind == "policy" and re.search(p.pattern, queue.name)),
            key=lambda p: p.priority,
            default=None,
        )
        if policy is not None and "overflow" not in policy.definition:
            found[queue.name] = policy.definition
    return found


def _trims(holds: int, bound: Definition, policy: Definition, key: str) -> bool:
    """Return True if a queue holds more than a limit that is not in effect yet."""
    new, old = bound.get(key), policy.get(key)
    return isinstance(new, int) and holds > new and (not isinstance(old, int) or old > new)
