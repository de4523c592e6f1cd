"""Refuse changes that would delete messages, with the number of messages in each queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from components.errors import MessagesWouldBeLost, OldestMessagesWouldBeLost
from kryonix.rabbitmq.broker import Filling
from kryonix.topology.expansion import Topology
from kryonix.topology.objects import Definition, QueueState, effective_policy
from kryonix.topology.ownership import accepted

AFTER_AN_UP: Final = "run `up` (`kryonix up` or `pulumi up`), and run this again"
"""Remedy where the program does not run: a resource being deleted knows only the last `up`'s config."""


def refuse_losses(counted: Iterable[QueueState], allow_delete: Collection[str], remedy: str = "and run again") -> None:
    """Raise MessagesWouldBeLost if queues about to be deleted hold messages whose loss is not accepted.

    A queue that is down, as its nodes are, may hold any.
    """
    held = [queue for queue in counted if (queue.messages or queue.down) and not accepted(queue.name, allow_delete)]
    if held:
        counts = [_count_text(queue) for queue in held]
        what = f"{len(held)} queue(s) that still hold messages"
        raise _refusal(MessagesWouldBeLost, what, held, counts, allow_delete, remedy)


def refuse_trims(fillings: Iterable[Filling], topologies: Sequence[Topology], allow_delete: Collection[str]) -> None:
    """Raise OldestMessagesWouldBeLost if a changed policy would make a queue drop its oldest messages."""
    bounds = {(t.vhost, queue.name): effective_policy(queue.name, t.policies) for t in topologies for queue in t.queues}
    over = [
        filling
        for filling in fillings
        if "overflow" not in (bound := bounds.get((filling.vhost, filling.name), {}))  # it drops the oldest messages
        and not accepted(filling.name, allow_delete)
        and (
            _trims(filling.messages, bound, filling.policy, "max-length")
            or _trims(filling.message_bytes, bound, filling.policy, "max-length-bytes")
        )
    ]
    if over:
        counts = [f"{f.messages:,} messages in {f.name} (vhost {f.vhost}), {f.message_bytes:,} bytes" for f in over]
        what = f"the oldest messages of {len(over)} queue(s), which hold more than their policy will allow"
        raise _refusal(OldestMessagesWouldBeLost, what, over, counts, allow_delete, "and run again")


def _refusal(
    error: type[MessagesWouldBeLost],
    what: str,
    queues: Sequence[QueueState | Filling],
    counts: Iterable[str],
    allow_delete: Collection[str],
    remedy: str,
) -> MessagesWouldBeLost:
    by_name: Counter[str] = Counter()
    for queue in queues:
        by_name[queue.name] += queue.messages
    listed = "".join(f"  {line}\n" for line in counts)
    return error(
        f"this change would delete {what}; nothing has been changed:\n{listed}"
        f"Consume or move them first, or accept the loss in the stack's config, {remedy}:\n"
        f"  kryonix:allowDelete: [{', '.join(dict.fromkeys([*allow_delete, *by_name]))}]",
        by_name,
    )


def _count_text(queue: QueueState) -> str:
    if queue.down:
        return f"an unknown number of messages in {queue.name} (vhost {queue.vhost}), until its nodes run again"
    return f"{queue.messages:,} messages in {queue.name} (vhost {queue.vhost})"


def _trims(holds: int, bound: Definition, policy: Definition, key: str) -> bool:
    """Return True if a queue holds more than a limit that is not in effect yet."""
    new, old = bound.get(key), policy.get(key)
    return isinstance(new, int) and holds > new and (not isinstance(old, int) or old > new)
