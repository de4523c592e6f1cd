"""Withdrawal: stop new messages from reaching queues before their deletion, then count again.

Applications keep publishing while a stack changes. A count taken seconds before a deletion misses messages confirmed
in between, and a quorum queue can't be deleted "if empty". So the queues are unbound, or the tenant's users are kept
out; a count after that is exact. If messages would be lost, everything is put back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Final

from components.losses import AFTER_AN_UP, refuse_losses
from kryonix.rabbitmq.broker import BindingState
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.rabbitmq.counts import CountingBroker
from kryonix.topology.objects import QueueState
from kryonix.topology.ownership import accepted

_LIMIT: Final = "max-connections"
_KEPT_OUT: Final = "kryonix-kept-out"
"""Prefix of the note with the former limits of a vhost's users; the vhost follows."""


def withdraw_queues(
    broker: CountingBroker, stack: str, queues: Sequence[QueueState], allow_delete: Collection[str]
) -> None:
    """Unbind queues before their deletion. Raise MessagesWouldBeLost, with all bound again, if they hold messages.

    A note on the broker lists the bindings first, so a killed run leaves nothing unbound for good.
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
        with suppress(BrokerUnavailable):  # the next run puts back the noted bindings
            put_back(broker, stack, ())
        raise


def put_back(broker: CountingBroker, stack: str, going: Collection[QueueState]) -> None:
    """Restore bindings that an earlier run removed, except those of queues about to be deleted."""
    noted = _noted(broker, stack)
    if not noted:
        return
    leaving = {(queue.vhost, queue.name) for queue in going}
    for binding in noted:
        if (binding.vhost, binding.queue) not in leaving:
            broker.bind(binding)
    rest = [asdict(binding) for binding in noted if (binding.vhost, binding.queue) in leaving]
    broker.put_note(_note(stack), rest) if rest else broker.drop_note(_note(stack))


def withdraw_vhosts(broker: CountingBroker, vhosts: Iterable[str], allow_delete: Collection[str]) -> None:
    """Keep users out of vhosts before their deletion.

    Raise MessagesWouldBeLost, with all users let in again, if a queue holds messages. A note on the broker keeps their
    former limits: if a run loses the broker, the next `up` restores them.
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
        with suppress(BrokerUnavailable):
            let_in(broker, leaving)
        raise


def let_in(broker: CountingBroker, vhosts: Collection[str]) -> None:
    """Restore the former limits of users who were kept out of these vhosts."""
    for name, former in broker.notes(_KEPT_OUT).items():
        if name.removeprefix(_KEPT_OUT) not in vhosts:
            continue
        for user, limit in former.items():
            if broker.user_limits(user).get(_LIMIT) == 0:
                broker.set_user_limit(user, _LIMIT, limit)
        broker.drop_note(name)


def _keep_out(broker: CountingBroker, vhost: str) -> None:
    note = f"{_KEPT_OUT}{vhost}"
    users = broker.users(vhost)
    noted = broker.note(note) or {}  # an earlier run's note has the original limit
    broker.put_note(note, {**{user: broker.user_limits(user).get(_LIMIT, -1) for user in users}, **noted})
    for user in users:
        broker.set_user_limit(user, _LIMIT, 0)
        broker.close_connections(user)


def _note(stack: str) -> str:
    return f"kryonix-withdrawn-{stack}"


def _noted(broker: CountingBroker, stack: str) -> list[BindingState]:
    return [BindingState(**entry) for entry in broker.note(_note(stack)) or ()]
