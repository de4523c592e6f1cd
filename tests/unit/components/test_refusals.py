"""What a change and a `destroy` refuse, and what lets them pass, without a broker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pulumi
import pytest
from pulumi.dynamic import Config, ConfigureRequest

from components import broker_safeguards, guard, safeguards
from components.errors import BrokerRefuses, ComponentError, MessagesWouldBeLost, TenantsWouldBeLost
from components.guard import Guard, refuse_losses
from components.management import BrokerAccess, Management, QueueState, VhostState
from kryonix.topology.catalog import default_catalog
from kryonix.topology.expansion import expand
from kryonix.topology.ownership import description
from kryonix.topology.tenants import Tenant

QUEUE = "cliente_acme.crm.leads.create"
ACCESS = BrokerAccess(
    management_url="http://127.0.0.1:1", username="admin", password="of a test", amqp_host="127.0.0.1", amqp_port=1
)
PROPS = {
    "managementUrl": ACCESS.management_url,
    "adminUsername": ACCESS.username,
    "adminPassword": ACCESS.password,
    "amqpHost": ACCESS.amqp_host,
    "amqpPort": ACCESS.amqp_port,
    "vhost": "/cliente_acme",
    "stack": "dev",
    "protected": True,
    "allowDelete": [],
}


@dataclass
class Broker:
    """What a broker would answer."""

    queues_there: list[QueueState] = field(default_factory=list)
    stacks: dict[str, str] = field(default_factory=lambda: {"acme": "dev"})
    unprotected: list[str] = field(default_factory=list)

    def __enter__(self) -> Broker:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def vhosts(self) -> list[VhostState]:
        return [VhostState(f"/cliente_{id}", description(id, stack)) for id, stack in self.stacks.items()]

    def queues(self, vhost: str | None = None) -> list[QueueState]:
        return [queue for queue in self.queues_there if vhost in (None, queue.vhost)]

    def exact(self, queues: list[QueueState]) -> list[QueueState]:
        return queues

    def protect(self, vhost: str, *, protected: bool) -> None:
        self.unprotected.append(vhost)


def holding(*names: str) -> list[QueueState]:
    return [QueueState("/cliente_acme", name, {"x-queue-type": "quorum"}, 2) for name in names]


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[Broker], Broker]:
    """Let this broker answer, whoever asks."""

    def use(broker: Broker) -> Broker:
        for module in (broker_safeguards, guard, safeguards):
            monkeypatch.setattr(module, "Management", lambda access: broker)
        return broker

    return use


def destroy_platform(**props: Any) -> None:
    known = {name: value for name, value in {**PROPS, **props}.items() if value is not None}
    broker_safeguards._BrokerSafeguardsProvider().delete("id", known)


def destroy_tenant(**props: Any) -> None:
    safeguards._SafeguardsProvider().delete("id", {**PROPS, **props})


def change(*allow_delete: str) -> None:
    """What preview and `up` ask before they take every module but one from `acme`."""
    topology = expand(Tenant(id="acme", modules=("financeiro",), plan="pro"), default_catalog())
    Guard(stack="dev", topologies=[topology], allow_delete=allow_delete, whole_broker=True)._ask(ACCESS)


def test_a_platform_that_carries_tenants_of_other_stacks_is_not_destroyed(answer: Callable[[Broker], Broker]) -> None:
    answer(Broker(stacks={"acme": "dev", "gamma": "tenant-gamma", "byhand": "other"}))
    with pytest.raises(TenantsWouldBeLost) as raised:
        destroy_platform()
    said = str(raised.value)
    assert "the stack 'dev' carries 2 tenant(s) with a stack of their own: byhand, gamma" in said
    assert "`kryonix tenant offboard gamma`, `kryonix tenant remove gamma --force --yes`" in said
    assert "`kryonix destroy --stack other`" in said
    assert "kryonix:deletionProtection to false" in said
    assert raised.value.exit_status == 2


def test_a_platform_with_its_own_tenants_alone_is_destroyed(answer: Callable[[Broker], Broker]) -> None:
    answer(Broker())
    destroy_platform()


def test_a_platform_without_protection_is_destroyed_whatever_it_carries(answer: Callable[[Broker], Broker]) -> None:
    answer(Broker(holding(QUEUE), stacks={"gamma": "tenant-gamma"}))
    destroy_platform(protected=False)


def test_safeguards_made_before_they_knew_their_stack_hold_for_tenants_stacks(
    answer: Callable[[Broker], Broker],
) -> None:
    broker = answer(Broker(stacks={"acme": "dev", "gamma": "tenant-gamma"}))
    with pytest.raises(TenantsWouldBeLost, match="the stack carries 1 tenant"):
        destroy_platform(stack=None)
    del broker.stacks["gamma"]
    destroy_platform(stack=None)


def test_safeguards_made_before_they_knew_their_stack_are_updated_not_replaced() -> None:
    before = {name: value for name, value in PROPS.items() if name != "stack"}
    diff = broker_safeguards._BrokerSafeguardsProvider().diff("id", before, PROPS)
    assert diff.changes
    assert not diff.replaces


@pytest.mark.parametrize("destroy", [destroy_platform, destroy_tenant])
def test_what_refuses_a_destroy_says_how_its_loss_is_accepted(
    answer: Callable[[Broker], Broker], destroy: Callable[..., None]
) -> None:
    broker = answer(Broker(holding(QUEUE, f"{QUEUE}.dlq")))
    with pytest.raises(MessagesWouldBeLost) as raised:
        destroy(allowDelete=["cliente_beta.*"])
    said = str(raised.value)
    assert said.endswith(f"  kryonix:allowDelete: [cliente_beta.*, {QUEUE}, {QUEUE}.dlq]")
    assert broker.unprotected == []


def test_a_destroy_accepts_what_the_config_accepts_now_unless_it_reaches_beyond_one_tenant() -> None:
    provider = safeguards._SafeguardsProvider()
    given = {"kryonix:allowDelete": '["cliente_acme.crm.leads.create", "cliente_*"]'}
    provider.configure(ConfigureRequest(config=Config(given, "kryonix")))
    assert provider.accepted({"allowDelete": ["cliente_acme.old"]}) == [
        "cliente_acme.old",
        "cliente_acme.crm.leads.create",
    ]


@pytest.mark.parametrize("run", [change, lambda *allowed: destroy_platform(allowDelete=list(allowed))])
@pytest.mark.parametrize(
    ("allowed", "passes"),
    [
        ([QUEUE], True),
        (["cliente_acme.*"], True),
        (["cliente_acme.*.create"], True),
        (["cliente_acme.crm.*"], True),
        ([], False),
        ([f"{QUEUE}.dlq"], False),
        (["cliente_acme.portal.*"], False),
        (["cliente_acme.*.delete"], False),
        (["cliente_acm?.crm.leads.create"], False),
        (["cliente_acme.[a-z]*"], False),
    ],
)
def test_a_loss_is_accepted_by_name_or_by_a_name_with_a_star(
    answer: Callable[[Broker], Broker], run: Callable[..., None], allowed: list[str], passes: bool
) -> None:
    answer(Broker(holding(QUEUE)))
    if passes:
        run(*allowed)
    else:
        with pytest.raises(MessagesWouldBeLost, match="2 messages in"):
            run(*allowed)


def test_a_change_is_not_told_to_run_up_and_destroy() -> None:
    with pytest.raises(MessagesWouldBeLost, match="and run again:") as raised:
        refuse_losses(cast(Management, Broker()), holding(QUEUE), ())
    assert "destroy" not in str(raised.value)


def test_refusals_end_a_program_without_a_traceback() -> None:
    assert issubclass(TenantsWouldBeLost, ComponentError)
    assert issubclass(TenantsWouldBeLost, pulumi.RunError)


def test_safeguards_whose_platform_was_made_anew_are_kept_as_they_are_until_the_next_up(
    answer: Callable[[Broker], Broker],
) -> None:
    class Anew(Broker):
        def protected(self, vhost: str) -> bool:
            raise BrokerRefuses("the broker refuses the user")

    answer(Anew())
    read = safeguards._SafeguardsProvider().read("id", PROPS)
    assert (read.id, read.outs) == ("id", PROPS)
