"""The refusal to delete what holds messages, in the words that a person reads."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from components.errors import MessagesWouldBeLost
from components.management import QueueState
from kryonix.topology.accepted_losses import accepted

__all__ = ["AFTER_AN_UP", "refuse_losses"]

AFTER_AN_UP: Final = "run `up` (`kryonix up` or `pulumi up`), and run this again"
"""How an accepted loss takes effect where the program does not run: what is deleted knows the last `up`'s config."""


def refuse_losses(counted: Iterable[QueueState], allow_delete: Collection[str], remedy: str = "and run again") -> None:
    """Raise MessagesWouldBeLost where queues that are about to go hold messages, unless their loss is accepted."""
    held = [queue for queue in counted if queue.messages and not accepted(queue.name, allow_delete)]
    if not held:
        return
    counts = "\n".join(f"  {queue.messages:,} messages in {queue.name} (vhost {queue.vhost})" for queue in held)
    raise MessagesWouldBeLost(
        f"this change would delete {len(held)} queue(s) that still hold messages; nothing has been changed:\n{counts}\n"
        f"Consume or move them first, or accept the loss in the stack's config, {remedy}:\n"
        f"  kryonix:allowDelete: [{', '.join(dict.fromkeys([*allow_delete, *(queue.name for queue in held)]))}]"
    )
