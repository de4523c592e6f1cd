"""A queue gets no new message before its last count; a refusal restores everything."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from components.errors import MessagesWouldBeLost
from components.withdrawal import let_in, put_back, withdraw_queues, withdraw_vhosts
from kryonix.rabbitmq.broker import BindingState
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.rabbitmq.counts import CountingBroker
from kryonix.topology.objects import QueueState

VHOST, EXCHANGE = "/cliente_acme", "cliente_acme"
LEADS, SYNC = (
    QueueState(VHOST, f"cliente_acme.crm.{action}", {"x-queue-type": "quorum"}, 0)
    for action in ("leads.create", "contacts.sync")
)


def binding_of(queue: QueueState) -> BindingState:
    return BindingState(VHOST, EXCHANGE, queue.name, "key", {}, "key")


@dataclass
class Broker:
    """A broker with active publishers: one message per binding, or per permitted user."""

    bound: set[str] = field(default_factory=lambda: {LEADS.name, SYNC.name})
    holds: dict[str, int] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=lambda: {"kryonix_acme": 10})
    noted: dict[str, Any] = field(default_factory=dict)
    closed: list[str] = field(default_factory=list)
    publishing: bool = False
    lost_after_unbinding: bool = False

    def queues(self, vhost: str) -> list[QueueState]:
        return [LEADS, SYNC]

    def exact(self, queues: list[QueueState]) -> list[QueueState]:
        counted = [replace(queue, messages=self.holds.get(queue.name, 0)) for queue in queues]
        if self.publishing:  # after the count, as an application does
            for queue in queues:
                self.holds[queue.name] = self.holds.get(queue.name, 0) + 1
        return counted

    def settled(self, queues: list[QueueState]) -> list[QueueState]:
        if self.lost_after_unbinding:
            raise BrokerUnavailable("the broker does not answer")
        if self.publishing:
            assert not self.bound.intersection(q.name for q in queues) or self.limits["kryonix_acme"] == 0
        return [replace(queue, messages=self.holds.get(queue.name, 0)) for queue in queues]

    def bindings(self, queue: QueueState) -> list[BindingState]:
        return [binding_of(queue)] if queue.name in self.bound else []

    def bind(self, binding: BindingState) -> None:
        if self.lost_after_unbinding:
            raise BrokerUnavailable("the broker does not answer")
        self.bound.add(binding.queue)

    def unbind(self, binding: BindingState) -> None:
        assert self.noted, "unbound before it was noted"
        self.bound.discard(binding.queue)

    def note(self, name: str) -> Any:
        return self.noted.get(name)

    def notes(self, prefix: str) -> dict[str, Any]:
        return {name: value for name, value in self.noted.items() if name.startswith(prefix)}

    def put_note(self, name: str, value: Any) -> None:
        self.noted[name] = value

    def drop_note(self, name: str) -> None:
        self.noted.pop(name, None)

    def users(self, vhost: str) -> list[str]:
        return ["kryonix_acme"]

    def user_limits(self, user: str) -> dict[str, int]:
        return {"max-connections": self.limits[user]}

    def set_user_limit(self, user: str, limit: str, value: int) -> None:
        if self.lost_after_unbinding and value:
            raise BrokerUnavailable("the broker does not answer")
        self.limits[user] = value

    def close_connections(self, user: str) -> None:
        assert self.limits[user] == 0, "closed while it may connect again"
        self.closed.append(user)


def withdraw(broker: Broker, *queues: QueueState, allow: tuple[str, ...] = ()) -> None:
    withdraw_queues(cast(CountingBroker, broker), "dev", queues, allow)


def again(broker: Broker, *going: QueueState) -> None:
    put_back(cast(CountingBroker, broker), "dev", going)


def test_empty_queues_stay_unbound_until_deleted() -> None:
    broker = Broker()
    withdraw(broker, LEADS)
    assert broker.bound == {SYNC.name}


def test_messages_after_the_first_count_restore_the_bindings() -> None:
    broker = Broker(holds={LEADS.name: 3})
    with pytest.raises(MessagesWouldBeLost, match=f"3 messages in {LEADS.name}"):
        withdraw(broker, LEADS, SYNC)
    assert broker.bound == {LEADS.name, SYNC.name}
    assert broker.noted == {}


def test_an_accepted_loss_is_neither_unbound_nor_counted() -> None:
    broker = Broker(holds={LEADS.name: 3})
    withdraw(broker, LEADS, allow=(LEADS.name,))
    assert broker.bound == {LEADS.name, SYNC.name}


def test_the_next_run_restores_bindings_of_a_lost_run() -> None:
    broker = Broker(lost_after_unbinding=True)
    with pytest.raises(BrokerUnavailable):
        withdraw(broker, LEADS, SYNC)
    assert broker.bound == set()
    broker.lost_after_unbinding = False
    again(broker, SYNC)
    assert broker.bound == {LEADS.name}
    again(broker)
    assert (broker.bound, broker.noted) == ({LEADS.name, SYNC.name}, {})


def test_a_second_lost_run_forgets_nothing_of_the_first() -> None:
    broker = Broker(lost_after_unbinding=True)
    for queue in (LEADS, SYNC):
        with pytest.raises(BrokerUnavailable):
            withdraw(broker, queue)
    broker.lost_after_unbinding = False
    again(broker)
    assert broker.bound == {LEADS.name, SYNC.name}


def test_a_tenants_users_are_locked_out_before_the_last_count() -> None:
    broker = Broker(publishing=True)
    with pytest.raises(MessagesWouldBeLost, match="would delete 2 queue"):
        withdraw_vhosts(cast(CountingBroker, broker), [VHOST], ())
    assert (broker.limits, broker.closed) == ({"kryonix_acme": 10}, ["kryonix_acme"])


def test_a_tenant_with_messages_is_not_disconnected_for_a_recount() -> None:
    broker = Broker(holds={SYNC.name: 1})
    with pytest.raises(MessagesWouldBeLost):
        withdraw_vhosts(cast(CountingBroker, broker), [VHOST], ())
    assert broker.closed == []


def test_an_empty_tenants_users_stay_locked_out() -> None:
    broker = Broker()
    withdraw_vhosts(cast(CountingBroker, broker), [VHOST], ())
    assert broker.limits == {"kryonix_acme": 0}


def test_a_tenant_whose_whole_loss_is_accepted_is_not_touched() -> None:
    broker = Broker(holds={LEADS.name: 1})
    withdraw_vhosts(cast(CountingBroker, broker), [VHOST], ("cliente_acme.*",))
    assert (broker.limits, broker.closed) == ({"kryonix_acme": 10}, [])


def test_the_next_up_readmits_users_with_their_old_limit() -> None:
    broker = Broker(lost_after_unbinding=True)
    for _ in range(2):  # the second finds 0, not the former limit
        with pytest.raises(BrokerUnavailable):
            withdraw_vhosts(cast(CountingBroker, broker), [VHOST], ())
    assert broker.limits == {"kryonix_acme": 0}
    broker.lost_after_unbinding = False
    let_in(cast(CountingBroker, broker), ["/cliente_other"])
    assert broker.limits == {"kryonix_acme": 0}
    let_in(cast(CountingBroker, broker), [VHOST])
    assert (broker.limits, broker.noted) == ({"kryonix_acme": 10}, {})
