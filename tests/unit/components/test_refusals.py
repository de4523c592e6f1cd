"""Refusals of a change and of `destroy`, and how to accept them, without a broker."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pulumi
import pytest
from pulumi.dynamic import Config, ConfigureRequest
from pulumi.output import Unknown
from pulumi.runtime.rpc import UNKNOWN

from components import accepting_provider, broker_safeguards, guard, safeguards
from components.current_address import CurrentAddress
from components.errors import (
    AdoptionUnfinished,
    BrokerRefuses,
    BrokerUnreachable,
    ClusterNeedsGrow,
    ComponentError,
    MessagesWouldBeLost,
    StateLost,
    TenantsWouldBeLost,
)
from components.guard import Guard
from components.losses import refuse_losses
from components.previous_run import PreviousRun
from kryonix.rabbitmq.broker import Filling
from kryonix.rabbitmq.counts import BrokerAccess
from kryonix.topology.catalog import default_catalog
from kryonix.topology.expansion import expand
from kryonix.topology.objects import QueueState, VhostState
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
    """A fake broker with given answers."""

    queues_there: list[QueueState] = field(default_factory=list)
    stacks: dict[str, str] = field(default_factory=lambda: {"acme": "dev"})
    unprotected: list[str] = field(default_factory=list)
    fillings_there: list[Filling] = field(default_factory=list)

    def __enter__(self) -> Broker:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def nodes(self) -> dict[str, bool]:
        return {"rabbit@one": True}

    def vhosts(self) -> list[VhostState]:
        return [VhostState(f"/cliente_{id}", description(id, stack)) for id, stack in self.stacks.items()]

    def queues(self, vhost: str | None = None) -> list[QueueState]:
        return [queue for queue in self.queues_there if vhost in (None, queue.vhost)]

    def exact(self, queues: list[QueueState]) -> list[QueueState]:
        return queues

    def settled(self, queues: list[QueueState]) -> list[QueueState]:
        return queues

    def bindings(self, queue: QueueState) -> list[Any]:
        return []

    def note(self, name: str) -> Any:
        return None

    def notes(self, prefix: str) -> dict[str, Any]:
        return {}

    def put_note(self, name: str, value: Any) -> None: ...

    def fillings(self, vhost: str | None = None) -> list[Filling]:
        return self.fillings_there

    def users(self, vhost: str) -> list[str]:
        return []

    def protect(self, vhost: str, *, protected: bool) -> None:
        self.unprotected.append(vhost)


def holding(*names: str) -> list[QueueState]:
    return [QueueState("/cliente_acme", name, {"x-queue-type": "quorum"}, 2) for name in names]


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[Broker], Broker]:
    """Let this broker answer, whoever asks."""

    def use(broker: Broker) -> Broker:
        for module in (accepting_provider, guard, safeguards):
            monkeypatch.setattr(module, "administration", lambda access: broker)
        return broker

    return use


class Known(PreviousRun):
    """A stack that has made the queues of `acme` that are named here, and no other."""

    async def managed_queues(self) -> set[tuple[str, str]]:
        return {("/cliente_acme", QUEUE), ("/cliente_acme", f"{QUEUE}.dlq")}


def destroy_platform(**props: Any) -> None:
    known = {name: value for name, value in {**PROPS, **props}.items() if value is not None}
    broker_safeguards._BrokerSafeguardsProvider().delete("id", known)


def destroy_tenant(**props: Any) -> None:
    safeguards._SafeguardsProvider().delete("id", {**PROPS, **props})


def change(*allow_delete: str) -> None:
    """Run the checks of `up` before it removes every module but one from `acme`."""
    topology = expand(Tenant(id="acme", modules=("financeiro",), plan="pro"), default_catalog())
    previous = Known(outputs={})
    asking = Guard(stack="dev", topologies=[topology], allow_delete=allow_delete, whole_broker=True, previous=previous)
    asyncio.run(asking._ask(ACCESS))


@pytest.mark.parametrize(("listed", "deployed"), [(["acme"], []), ([], ["acme"]), (["acme"], ["acme"])])
def test_a_platform_does_not_run_with_a_tenant_that_has_its_own_stack(
    answer: Callable[[Broker], Broker], listed: list[str], deployed: list[str]
) -> None:
    """Still listed, `up` would give it a new password; only in the state, `up` would delete it."""
    answer(Broker(stacks={"acme": "tenant-acme", "gamma": "tenant-gamma", "beta": "dev"}))
    topologies = [expand(Tenant(id=id, modules=("crm",), plan="basic"), default_catalog()) for id in (*listed, "beta")]
    previous = PreviousRun(outputs={"tenants": {id: {} for id in (*deployed, "beta")}})
    asking = Guard(stack="dev", topologies=topologies, allow_delete=(), whole_broker=True, previous=previous)
    with pytest.raises(AdoptionUnfinished, match="kryonix tenant adopt acme --stack dev"):
        asyncio.run(asking._ask(ACCESS))


def test_a_platform_with_tenants_of_other_stacks_is_not_destroyed(answer: Callable[[Broker], Broker]) -> None:
    answer(Broker(stacks={"acme": "dev", "gamma": "tenant-gamma", "byhand": "other"}))
    with pytest.raises(TenantsWouldBeLost) as raised:
        destroy_platform()
    said = str(raised.value)
    assert "the stack 'dev' carries 2 tenant(s) with a stack of their own: byhand, gamma" in said
    assert "`kryonix tenant offboard gamma`, then `kryonix tenant remove gamma`" in said
    assert "`kryonix destroy --stack other`" in said
    assert "kryonix:deletionProtection to false" in said
    assert raised.value.exit_status == 2


def test_a_platform_with_only_its_own_tenants_is_destroyed(answer: Callable[[Broker], Broker]) -> None:
    answer(Broker())
    destroy_platform()


def test_an_unprotected_platform_is_destroyed_with_any_tenants(answer: Callable[[Broker], Broker]) -> None:
    answer(Broker(holding(QUEUE), stacks={"gamma": "tenant-gamma"}))
    destroy_platform(protected=False)


def test_safeguards_without_a_stack_protect_tenant_stacks(
    answer: Callable[[Broker], Broker],
) -> None:
    broker = answer(Broker(stacks={"acme": "dev", "gamma": "tenant-gamma"}))
    with pytest.raises(TenantsWouldBeLost, match="the stack carries 1 tenant"):
        destroy_platform(stack=None)
    del broker.stacks["gamma"]
    destroy_platform(stack=None)


def test_safeguards_without_a_stack_are_updated_in_place() -> None:
    before = {name: value for name, value in PROPS.items() if name != "stack"}
    diff = broker_safeguards._BrokerSafeguardsProvider().diff("id", before, PROPS)
    assert diff.changes
    assert not diff.replaces


@pytest.mark.parametrize(
    ("news", "replaces"),
    [
        ({"queues": [QUEUE, UNKNOWN]}, ["queues"]),
        ({"vhost": UNKNOWN, "queues": [UNKNOWN]}, ["queues", "vhost"]),
        ({"vhost": "/cliente_other"}, ["vhost"]),
        ({"vhost": UNKNOWN, "queues": [UNKNOWN], "managementUrl": UNKNOWN}, []),
        ({"vhost": "/cliente_other", "queues": [UNKNOWN], "managementUrl": UNKNOWN}, ["vhost"]),
    ],
)
def test_safeguards_of_an_unknown_broker_stay_in_place(news: dict[str, Any], replaces: list[str]) -> None:
    """A preview of TLS does not know the broker's new certificate, and so no name that its provider would return."""
    before = {**PROPS, "queues": [QUEUE, f"{QUEUE}.dlq"]}
    diff = safeguards._SafeguardsProvider().diff("id", before, {**before, **news})
    assert diff.changes
    assert sorted(diff.replaces or []) == replaces


@pytest.mark.parametrize("destroy", [destroy_platform, destroy_tenant])
def test_a_refused_destroy_says_how_to_accept_the_loss(
    answer: Callable[[Broker], Broker], destroy: Callable[..., None]
) -> None:
    broker = answer(Broker(holding(QUEUE, f"{QUEUE}.dlq")))
    with pytest.raises(MessagesWouldBeLost) as raised:
        destroy(allowDelete=["cliente_beta.*"])
    said = raised.value.message
    assert said.endswith(f"  kryonix:allowDelete: [cliente_beta.*, {QUEUE}, {QUEUE}.dlq]")
    assert broker.unprotected == []


def test_a_destroy_accepts_the_current_configs_entries_of_one_tenant() -> None:
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
def test_a_loss_is_accepted_by_name_or_wildcard(
    answer: Callable[[Broker], Broker], run: Callable[..., None], allowed: list[str], passes: bool
) -> None:
    answer(Broker(holding(QUEUE)))
    if passes:
        run(*allowed)
    else:
        with pytest.raises(MessagesWouldBeLost, match="2 messages in"):
            run(*allowed)


def test_a_queue_that_nobody_can_count_is_not_deleted(answer: Callable[[Broker], Broker]) -> None:
    """Its only members are on nodes that are down: the broker says 0, and would delete it by force."""
    answer(Broker([replace(queue, messages=0, down=True) for queue in holding(QUEUE)]))
    with pytest.raises(MessagesWouldBeLost, match=f"an unknown number of messages in {QUEUE}"):
        change()
    change(QUEUE)


def test_a_refused_change_does_not_advise_up_and_destroy() -> None:
    with pytest.raises(MessagesWouldBeLost, match="and run again:") as raised:
        refuse_losses(holding(QUEUE), ())
    assert "destroy" not in str(raised.value)


def test_refusals_end_a_program_without_a_traceback() -> None:
    assert issubclass(TenantsWouldBeLost, ComponentError)
    assert issubclass(TenantsWouldBeLost, pulumi.RunError)


def test_safeguards_of_a_recreated_platform_stay_until_the_next_up(
    answer: Callable[[Broker], Broker],
) -> None:
    class Anew(Broker):
        def protected(self, vhost: str) -> bool:
            raise BrokerRefuses("the broker refuses the user")

    answer(Anew())
    read = safeguards._SafeguardsProvider().read("id", PROPS)
    assert (read.id, read.outs) == ("id", PROPS)


@pytest.mark.parametrize("refuse", [destroy_platform, destroy_tenant])
def test_the_cli_shows_a_refusals_reason_above_its_traceback(
    answer: Callable[[Broker], Broker], refuse: Callable[[], None]
) -> None:
    answer(Broker(holding(QUEUE)))
    try:
        refuse()
    except MessagesWouldBeLost:
        shown = traceback.format_exc()  # as the CLI's server of dynamic providers does
    assert shown.startswith("components.errors.MessagesWouldBeLost: this change would delete 1 queue(s)")
    assert "run `up` (`kryonix up` or `pulumi up`), and run this again" in shown


class Silent(Broker):
    def vhosts(self) -> list[VhostState]:
        raise BrokerUnreachable("the broker does not answer")

    def queues(self, vhost: str | None = None) -> list[QueueState]:
        raise BrokerUnreachable("the broker does not answer")


class Refusing(Broker):
    def vhosts(self) -> list[VhostState]:
        raise BrokerRefuses("the broker refuses the user")

    def queues(self, vhost: str | None = None) -> list[QueueState]:
        raise BrokerRefuses("the broker refuses the user")


@pytest.mark.parametrize("destroy", [destroy_platform, destroy_tenant])
def test_an_unreachable_broker_is_destroyed_only_if_abandoned(
    answer: Callable[[Broker], Broker], destroy: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(Silent())
    for given_up in ("", "1", "http://127.0.0.1:2"):
        monkeypatch.setenv("KRYONIX_GIVE_UP_BROKER", given_up)
        with pytest.raises(BrokerUnreachable, match=f"set KRYONIX_GIVE_UP_BROKER={ACCESS.management_url}"):
            destroy()
    monkeypatch.setenv("KRYONIX_GIVE_UP_BROKER", ACCESS.management_url)
    destroy()
    answer(Refusing())
    with pytest.raises(BrokerRefuses):
        destroy()
    answer(Broker(holding(QUEUE)))
    with pytest.raises(MessagesWouldBeLost):
        destroy()


QUEUES = [QUEUE, f"{QUEUE}.dlq"]


@pytest.mark.parametrize(
    ("news", "replaces"),
    [
        (QUEUES[:1], []),
        ([*QUEUES, "cliente_acme.crm.leads.update"], []),
        (Unknown(), ["queues"]),  # type: ignore[no-untyped-call]  # the SDK declares no types for it
        (UNKNOWN, ["queues"]),
        ([QUEUE, Unknown()], ["queues"]),  # type: ignore[no-untyped-call]  # the same
        ([QUEUE, UNKNOWN], ["queues"]),
    ],
)
def test_replacing_a_queue_requires_removing_the_safeguards(news: Any, replaces: list[str]) -> None:
    before = {**PROPS, "queues": QUEUES}
    diff = safeguards._SafeguardsProvider().diff("id", before, {**before, "queues": news})
    assert (diff.changes, diff.replaces) == (True, replaces)


def test_a_run_that_would_remove_members_of_the_cluster_is_refused(answer: Callable[[Broker], Broker]) -> None:
    broker = answer(Broker())
    members = {"rabbit@one": True, "rabbit@two": True}
    broker.nodes = lambda: members  # type: ignore[method-assign]
    with pytest.raises(ClusterNeedsGrow, match="rabbit@two"):
        asyncio.run(replace(guarded(), nodes=1)._ask(ACCESS))
    asyncio.run(replace(guarded(), nodes=3)._ask(ACCESS))


def guarded(**outputs: Any) -> Guard:
    return Guard(stack="dev", topologies=[], allow_delete=(), whole_broker=True, previous=PreviousRun(outputs=outputs))


def test_a_run_that_turns_tls_on_asks_the_broker_where_it_is_without() -> None:
    secured = replace(ACCESS, management_url="https://127.0.0.1:1", amqp_tls=True, ca_certificate="a CA")
    before = guarded(management_url="http://127.0.0.1:1", amqp_host="127.0.0.1", amqp_port=1)._before(secured)
    assert before == ACCESS
    assert guarded()._before(secured) == secured


def test_a_new_state_refused_by_the_broker_is_another_runs(answer: Callable[[Broker], Broker]) -> None:
    answer(Refusing())
    with pytest.raises(StateLost) as raised:
        asyncio.run(guarded()._ask_first(ACCESS))
    for way_out in (".kryonix/stacks/dev", "pulumi stack import", "set other ports", "docker volume rm"):
        assert way_out in str(raised.value)


def test_a_known_stacks_refused_administrator_is_reported(
    answer: Callable[[Broker], Broker],
) -> None:
    answer(Refusing())
    with pytest.raises(BrokerRefuses):
        asyncio.run(guarded(management_url=ACCESS.management_url)._ask_first(ACCESS))


def test_a_moved_broker_is_asked_at_its_old_address(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def at(access: BrokerAccess) -> Broker:
        asked.append((access.management_url, access.amqp_port))
        if access.management_url == ACCESS.management_url:
            raise BrokerUnreachable("nobody is there yet")
        return Broker([QueueState("/cliente_acme", QUEUE, {}, 2)])

    monkeypatch.setattr(guard, "administration", at)
    with pytest.raises(MessagesWouldBeLost):
        asyncio.run(
            guarded(management_url="http://127.0.0.1:15672", amqp_host="127.0.0.1", amqp_port=5672)._ask_first(ACCESS)
        )
    assert list(dict.fromkeys(asked)) == [(ACCESS.management_url, 1), ("http://127.0.0.1:15672", 5672)]


@pytest.mark.parametrize(
    ("options", "older"),
    [
        ([], False),
        ([None], True),
        ([[]], True),
        ([["no-new-privileges"]] * 2, False),
        ([["no-new-privileges"], []], True),
    ],
)
def test_containers_of_older_versions_are_recognized(options: list[Any], older: bool) -> None:
    containers = [{} if found is None else {"securityOpts": found} for found in options]
    assert PreviousRun(outputs={}, containers=containers).has_older_layout is older


CONFIG = {"bindAddress": "0.0.0.0", "amqpPort": "7001", "managementPort": "7002", "registryPort": "7003"}


@pytest.mark.parametrize("answering", [True, False])
def test_removed_objects_are_checked_at_the_brokers_current_address(
    monkeypatch: pytest.MonkeyPatch, answering: bool
) -> None:
    class Moved(Broker):
        def answers(self) -> bool:
            return answering

    monkeypatch.setattr(accepting_provider, "administration", lambda access: Moved())
    provider = safeguards._SafeguardsProvider()
    given = {f"kryonix:{key}": value for key, value in CONFIG.items()}
    provider.configure(ConfigureRequest(config=Config(given, "kryonix")))
    found = provider.found(ACCESS)
    where = "https://127.0.0.1:7002" if answering else ACCESS.management_url
    assert (found.management_url, found.password) == (where, ACCESS.password)


def test_a_tenant_stack_has_no_address_of_its_own() -> None:
    given = {f"kryonix:{key}": value for key, value in CONFIG.items()} | {"kryonix:tenant": '{"id": "acme"}'}
    assert CurrentAddress.of(Config(given, "kryonix")) is None
    platform = CurrentAddress.of(Config({f"kryonix:{key}": value for key, value in CONFIG.items()}, "kryonix"))
    assert platform is not None
    assert platform.registry("postgresql://a:b%40c@10.0.0.1:5432/kryonix_main") == (
        "postgresql://a:b%40c@127.0.0.1:7003/kryonix_main"
    )


def test_a_platform_of_several_machines_is_at_the_first_ones_address() -> None:
    hosts = [{"address": f"10.0.0.{n}", "docker": f"ssh://10.0.0.{n}"} for n in (1, 2, 3)]
    given = {f"kryonix:{key}": value for key, value in (CONFIG | {"bindAddress": "127.0.0.1"}).items()}
    platform = CurrentAddress.of(Config(given | {"kryonix:hosts": json.dumps(hosts)}, "kryonix"))
    assert platform is not None
    assert platform.broker(ACCESS).management_url == "https://10.0.0.1:7002"
    assert CurrentAddress.of(Config(given | {"kryonix:hosts": '["10.0.0.1"]'}, "kryonix")) is None


def test_a_queue_outside_the_state_is_neither_counted_nor_unbound(answer: Callable[[Broker], Broker]) -> None:
    class Foreign(Broker):
        def bindings(self, queue: QueueState) -> list[Any]:
            raise AssertionError(f"{queue.name} is somebody else's")

    answer(Foreign(holding("cliente_acme.made.by.hand")))
    change()


DEAD = "cliente_acme.financeiro.faturas.create.dlq"
IN_FORCE = {"message-ttl": 86_400_000, "max-length": 10_000}


@pytest.mark.parametrize(
    ("filling", "refused"),
    [
        (Filling("/cliente_acme", DEAD, 12, 20_000_000, IN_FORCE), True),
        (Filling("/cliente_acme", DEAD, 12, 10_000_000, IN_FORCE), False),
        (Filling("/cliente_acme", DEAD, 20_000, 20_000, {"max-length": 50_000}), True),
        (Filling("/cliente_acme", DEAD, 12, 20_000_000, {**IN_FORCE, "max-length-bytes": 16_777_216}), False),
        (
            Filling("/cliente_acme", DEAD.removesuffix(".dlq"), 90_000, 90_000_000_000, {}),
            False,
        ),  # it refuses, drops none
        (Filling("/cliente_other", DEAD, 12, 20_000_000, IN_FORCE), False),
    ],
)
def test_a_policy_that_drops_messages_needs_acceptance(
    answer: Callable[[Broker], Broker], filling: Filling, refused: bool
) -> None:
    answer(Broker(fillings_there=[filling]))
    if not refused:
        change()
        return
    with pytest.raises(MessagesWouldBeLost, match="the oldest messages of 1 queue") as raised:
        change()
    assert f"kryonix:allowDelete: [{DEAD}]" in str(raised.value)
    change(DEAD)
