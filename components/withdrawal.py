"""Withdrawal: let nothing new reach queues that are to be deleted, and count once more what they hold.

Applications go on publishing while a stack changes. A count that is taken first and acted upon seconds later misses
what is confirmed in between, and a quorum queue can't be deleted "if empty". So the queues are unbound, or a whole
tenant's users are kept out; then what is counted is what would be lost. Where there is something, all is put back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Final

from components.errors import BrokerUnreachable
from components.losses import AFTER_AN_UP, refuse_losses
from components.management import BindingState, Management, QueueState
from kryonix.topology.ownership import accepted

__all__ = ["let_in", "put_back", "withdraw_queues", "withdraw_vhosts"]

_LIMIT: Final = "max-connections"
_KEPT_OUT: Final = "kryonix-kept-out"
"""What the name of a note begins with that has the limits of a vhost's users; the vhost follows."""


def withdraw_queues(
    broker: Management, stack: str, queues: Sequence[QueueState], allow_delete: Collection[str]
) -> None:
    """Unbind queues that are to be deleted. Raise MessagesWouldBeLost, bound as before, where they hold messages.

    What is unbound is noted on the broker first, so that a run that was killed leaves nothing unbound for good.
    """
    held = [queue for queue in queues if not accepted(queue.name, allow_delete)]
    bindings = [binding for queue in held for binding in broker.bindings(queue)]
    if bindings:
        broker.put_note(_note(stack), [asdict(binding) for binding in [*_noted(broker, stack), *bindings]])
    try:
        for binding in bindings:
            broker.unbind(binding)
        refuse_losses(broker.settled(held), allow_delete)
    except BaseException:
        with suppress(BrokerUnreachable):  # then the next run puts back what is noted
            put_back(broker, stack, ())
        raise


def put_back(broker: Management, stack: str, going: Collection[QueueState]) -> None:
    """Bind again what an earlier run unbound and did not delete, but for the queues that are to go now."""
    noted = _noted(broker, stack)
    if not noted:
        return
    leaving = {(queue.vhost, queue.name) for queue in going}
    for binding in noted:
        if (binding.vhost, binding.queue) not in leaving:
            broker.bind(binding)
    rest = [asdict(binding) for binding in noted if (binding.vhost, binding.queue) in leaving]
    broker.put_note(_note(stack), rest) if rest else broker.drop_note(_note(stack))


def withdraw_vhosts(broker: Management, vhosts: Iterable[str], allow_delete: Collection[str]) -> None:
    """Keep the users of vhosts that are to be deleted out of them.

    Raise MessagesWouldBeLost, with all of them let in as before, where a queue holds messages. Their former limits are
    noted on the broker first: where a run lost the broker on the way, the next `up` lets them in.
    """
    held = {
        vhost: [queue for queue in broker.queues(vhost) if not accepted(queue.name, allow_delete)] for vhost in vhosts
    }
    queues = [queue for found in held.values() for queue in found]
    if not queues:
        return
    refuse_losses(broker.exact(queues), allow_delete, AFTER_AN_UP)
    leaving = [vhost for vhost, found in held.items() if found]
    try:
        for vhost in leaving:
            _keep_out(broker, vhost)
        refuse_losses(broker.settled(queues), allow_delete, AFTER_AN_UP)
    except BaseException:
        with suppress(BrokerUnreachable):
            let_in(broker, leaving)
        raise


def let_in(broker: Management, vhosts: Collection[str]) -> None:
    """Give users the limit back that they had before they were kept out of these vhosts."""
    for name, former in broker.notes(_KEPT_OUT).items():
        if name.removeprefix(_KEPT_OUT) not in vhosts:
            continue
        for user, limit in former.items():
            if broker.user_limits(user).get(_LIMIT) == 0:
                broker.set_user_limit(user, _LIMIT, limit)
        broker.drop_note(name)


def _keep_out(broker: Management, vhost: str) -> None:
    note = f"{_KEPT_OUT}{vhost}"
    users = broker.users(vhost)
    noted = broker.note(note) or {}  # what a run before this one has noted was the limit before it
    broker.put_note(note, {**{user: broker.user_limits(user).get(_LIMIT, -1) for user in users}, **noted})
    for user in users:
        broker.set_user_limit(user, _LIMIT, 0)
        broker.close_connections(user)


def _note(stack: str) -> str:
    return f"kryonix-withdrawn-{stack}"


def _noted(broker: Management, stack: str) -> list[BindingState]:
    return [BindingState(**entry) for entry in broker.note(_note(stack)) or ()]
