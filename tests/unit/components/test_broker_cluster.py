"""The nodes of a broker: their containers' inputs, and which of them a run may change."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pulumi
import pytest

from components import cluster_formed, management
from components.broker import inputs_digest
from components.broker_cluster import BrokerCluster, BrokerClusterArgs
from components.errors import ClusterNeedsGrow, ClusterNeedsRoll, ClusterNotFormed, InvalidStack, MajorityMissing
from components.exporter import MetricsEndpoint
from components.roll import Roll
from components.settings import PlatformSettings
from kryonix.cluster.nodes import ROLL_VARIABLE
from kryonix.engines.deployments import SIGNATURE
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.rabbitmq.counts import BrokerAccess
from tests.support.mocked import Recorder, registered
from tests.support.platform_settings import platform_settings

IMAGE = "rabbitmq:4.3.6-management"
COOKIE = "/var/lib/rabbitmq/.erlang.cookie"


@pytest.fixture(autouse=True)
def _stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulumi, "get_stack", lambda: "dev")


def settings(count: int = 1, **changes: Any) -> PlatformSettings:
    given: dict[str, Any] = {"address": "0.0.0.0", "advertised_host": "broker.example", "broker_nodes": count}
    return platform_settings(**given | changes)


def made(count: int, **args: Any) -> Recorder:
    """Return the registrations of a broker of so many nodes."""

    def program() -> None:
        password = pulumi.Output.secret("the admin's")
        BrokerCluster("broker", BrokerClusterArgs(settings=settings(count), admin_password=password, **args))

    return registered(program)


def containers(recorder: Recorder) -> list[Mapping[str, Any]]:
    found = recorder.of("docker:index/container:Container")
    return [found[name] for name in sorted(found, key=lambda name: (len(name), name))]


def files(inputs: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    uploads = inputs["uploads"]
    return {upload["file"]: upload for upload in (uploads["value"] if SIGNATURE in uploads else uploads)}


def config(inputs: Mapping[str, Any]) -> dict[str, str]:
    lines = files(inputs)["/etc/rabbitmq/rabbitmq.conf"]["content"].splitlines()
    pairs = [line.split(" = ", 1) for line in lines if line and not line.startswith("#")]
    found = dict(pairs)
    assert len(found) == len(pairs), "a key is there twice"
    return found


def test_a_node_alone_is_no_cluster() -> None:
    recorder = made(1)
    (inputs,) = containers(recorder)
    assert inputs["wait"] is True
    assert inputs["networksAdvanced"] == [{"aliases": ["rabbitmq"], "name": "kryonix-dev-rabbitmq-network"}]
    assert COOKIE not in files(inputs)
    assert not [key for key in config(inputs) if "cluster" in key or "membership" in key or "locator" in key]
    assert not recorder.of("random:index/randomPassword:RandomPassword")
    assert not recorder.of("pulumi-python:dynamic/kryonix:ClusterFormed")


@pytest.mark.parametrize("count", [3, 5])
def test_nodes_know_each_other_by_one_list_and_one_secret(count: int) -> None:
    recorder = made(count)
    found = containers(recorder)
    names = [inputs["name"] for inputs in found]
    assert names == ["kryonix-dev-rabbitmq", *(f"kryonix-dev-rabbitmq-{number}" for number in range(2, count + 1))]
    assert [inputs["hostname"] for inputs in found] == names
    for number, inputs in enumerate(found, 1):
        assert inputs["wait"] is False, "the first nodes would wait for those that the engine has not started"
        assert [network["aliases"] for network in inputs["networksAdvanced"]] == [["rabbitmq", f"rabbitmq-{number}"]]
        known = config(inputs)
        listed = [known[f"cluster_formation.classic_config.nodes.{each}"] for each in range(1, count + 1)]
        assert listed == [f"rabbit@{name}" for name in names]
        assert known["cluster_formation.target_cluster_size_hint"] == str(count)
        assert "cluster_partition_handling" not in known, "4.3 ignores it"
        assert files(inputs)[COOKIE] == {"file": COOKIE, "content": "broker-cookie's secret", "permissions": "0400"}
        assert "broker-cookie's secret" not in json.dumps({**inputs, "uploads": None})
        assert {port["external"] - 10 * (number - 1) for port in inputs["ports"]} == {5672, 15672, 9419}
    assert len({json.dumps(inputs["labels"]) for inputs in found}) == 1, "a balancer sees one service"
    (formed,) = recorder.of("pulumi-python:dynamic/kryonix:ClusterFormed").values()
    assert [node["node"] for node in formed["nodes"]] == [f"rabbit@{name}" for name in names]
    assert formed["nodes"][1]["url"] == "http://127.0.0.1:15682"
    assert formed["nodes"][0]["id"] == "broker-container-id"


def test_new_nodes_are_made_once_the_cluster_can_be_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[str] = []
    monkeypatch.setattr(cluster_formed, "_wait_for", lambda node, password, trust: waited.append(node.name))
    grown, new = made(3, growing_from=1), made(3)
    assert waited == ["rabbit@kryonix-dev-rabbitmq"]
    assert containers(grown) == containers(new), "the wait changes no input"


def test_a_digest_is_of_all_inputs_but_the_secrets() -> None:

    def digest(number: int, **changes: Any) -> str:
        changed = settings(3, **changes)
        return inputs_digest(changed.nodes.nodes[number - 1], changed)

    before = digest(2)
    assert before == digest(2)
    assert before != digest(1)
    for change in (
        {"broker_image": f"{IMAGE}-alpine"},
        {"broker_memory_mb": 1025},
        {"domain": "another.example"},
        {"receive_time": True},
        {"management_port": 15693},
        {"metrics": MetricsEndpoint(address="0.0.0.0")},
    ):
        assert digest(2, **change) != before, change
    assert digest(2, registry_port=5433) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"broker_nodes": 2}, "kryonix:brokerNodes: 2 is not a valid number of nodes. Use 1, 3 or 5"),
        ({"broker_nodes": 10**9}, "is not a valid number of nodes"),
        ({"broker_nodes": 3, "registry_port": 5682}, "kryonix:amqpPort of node 2 5682"),
        ({"broker_nodes": 3, "management_port": 5662}, "two of these are the same port"),
        ({"broker_nodes": 3, "management_port": 65_530}, "kryonix:managementPort of node 2: 65540 is not a valid port"),
    ],
)
def test_nodes_that_can_not_run_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidStack) as refused:
        settings(**change)
    assert said in str(refused.value)


@pytest.mark.parametrize("stack", ["eu.prod", "x" * 50])
def test_a_stack_whose_nodes_have_no_names_is_refused(stack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulumi, "get_stack", lambda: stack)
    settings(1)
    with pytest.raises(InvalidStack, match="is not a valid host name of a node"):
        settings(3)


def outputs(count: int, **changes: Any) -> dict[str, Any]:
    """The outputs of a last run with other settings."""
    before = settings(count, **changes)
    nodes = [
        {
            "name": node.name,
            "container": node.container,
            "amqp": node.amqp,
            "management": node.management_url,
            "digest": inputs_digest(node, before),
        }
        for node in before.nodes
    ]
    return {"layout": 2, "broker_nodes": nodes, "metrics_url": "http://127.0.0.1:9419/metrics"}


def kept(now: PlatformSettings, before: dict[str, Any], value: str, monkeypatch: pytest.MonkeyPatch) -> dict[int, str]:
    monkeypatch.setenv(ROLL_VARIABLE, value)
    return Roll.load().kept("dev", {node.number: inputs_digest(node, now) for node in now.nodes}, before)


OTHER = {"broker_image": f"{IMAGE}-alpine"}


def test_a_change_of_a_cluster_is_refused_before_anything_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ClusterNeedsRoll) as refused:
        kept(settings(3, **OTHER), outputs(3), "", monkeypatch)
    for said in ("3 of 3 nodes", "kryonix-dev-rabbitmq-2", "kryonix cluster roll --stack dev", "nothing has been"):
        assert said in str(refused.value)


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        ({"management_port": 15682}, "node 1 would publish port 15682, which node 2 has"),
        (
            {"amqp_port": 9429, "metrics": MetricsEndpoint(port=9519)},
            "node 1 would publish port 9429, which node 2 has",
        ),
        ({"management_port": 5662}, "node 2 would publish port 5672, which node 1 has"),
        ({"amqp_port": 5673, "management_port": 5672}, ""),
        ({}, ""),
    ],
)
def test_a_node_can_not_have_a_port_of_another_one(change: dict[str, Any], refused: str) -> None:
    now = settings(3, **{"amqp_port": 6672, **change} if refused else change)
    if not refused:
        now.nodes.refuse_exchanges(outputs(3))
        return
    with pytest.raises(InvalidStack, match=refused):
        now.nodes.refuse_exchanges(outputs(3))
    now.nodes.refuse_exchanges({})
    now.nodes.refuse_exchanges(outputs(1))


def test_a_stack_with_a_cluster_is_not_renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    before = outputs(3)
    monkeypatch.setattr(pulumi, "get_stack", lambda: "prod")
    with pytest.raises(InvalidStack, match="rabbit@kryonix-dev-rabbitmq, and would become rabbit@kryonix-prod"):
        settings(3).nodes.refuse_exchanges(before)


def test_an_unchanged_cluster_keeps_its_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kept(settings(3), outputs(3), "", monkeypatch).keys() == {1, 2, 3}


def test_a_roll_changes_the_named_node_only(monkeypatch: pytest.MonkeyPatch) -> None:
    before, now = outputs(3), settings(3, **OTHER)
    was, digests = (
        [each["digest"] for each in entries]
        for entries in (before["broker_nodes"], outputs(3, **OTHER)["broker_nodes"])
    )
    assert kept(now, before, "2", monkeypatch) == {1: was[0], 3: was[2]}
    assert kept(now, before, "2+1", monkeypatch) == {1: digests[0], 3: was[2]}, "what is settled stays, and is recorded"
    assert kept(now, before, "1+2,3", monkeypatch) == {2: digests[1], 3: digests[2]}


def test_only_a_preview_may_change_several_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set by hand, the variable would let `pulumi up` take all nodes down at once."""
    for value in ("1,2,3", "1,2+3"):
        with pytest.raises(InvalidStack, match=r"lets a run replace \d nodes at once.*use `kryonix cluster roll`"):
            kept(settings(3, **OTHER), outputs(3), value, monkeypatch)
    monkeypatch.setattr(pulumi.runtime, "is_dry_run", lambda: True)
    assert kept(settings(3, **OTHER), outputs(3), "1,2,3", monkeypatch) == {}


def test_nodes_whose_turn_is_yet_to_come_have_no_new_address() -> None:
    def asked(**args: Any) -> list[int]:
        (formed,) = made(3, **args).of("pulumi-python:dynamic/kryonix:ClusterFormed").values()
        return [number for number, node in enumerate(formed["nodes"], 1) if "url" in node]

    assert asked(kept={1: "", 3: ""}, outdated=[3]) == [1, 2]
    assert asked() == [1, 2, 3]


@pytest.mark.parametrize("before", [{}, outputs(1), {"layout": 2}])
def test_a_node_alone_and_a_new_platform_change_freely(before: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert kept(settings(1, **OTHER), before, "", monkeypatch) == {}
    assert kept(settings(3 if not before else 1), before, "", monkeypatch) == {}


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 5), (3, 1), (5, 3)])
def test_another_number_of_nodes_is_refused(before: int, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for roll in ("", "1+2"):
        with pytest.raises(ClusterNeedsGrow) as refused:
            kept(settings(after), outputs(before), roll, monkeypatch)
        said = "kryonix cluster grow --stack dev" if after > before else "can't shrink"
        assert said in str(refused.value)


def test_growing_leaves_the_nodes_of_a_cluster_but_not_a_node_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kept(settings(3), outputs(1), "grow:3", monkeypatch) == {}
    assert kept(settings(5), outputs(3), "grow:5", monkeypatch).keys() == {1, 2, 3}
    with pytest.raises(ClusterNeedsGrow):
        kept(settings(5), outputs(3), "grow:3", monkeypatch)


@pytest.mark.parametrize("value", ["all", "1,", "grow", "grow:", "12", "2 3", "2+", "+grow:3"])
def test_another_value_of_the_roll_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidStack, match=ROLL_VARIABLE):
        kept(settings(3), outputs(3), value, monkeypatch)


class View:
    """A fake node: what it sees of the cluster, None where it does not answer."""

    def __init__(self, seen: Mapping[str, bool] | None, url: str = "http://a.node") -> None:
        self.seen, self.url = seen, url

    def __enter__(self) -> View:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def nodes(self) -> Mapping[str, bool]:
        if self.seen is None:
            raise BrokerUnavailable("the broker does not answer", "does not answer (refused)")
        return self.seen


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (None, "kryonix-dev-rabbitmq-2: http://127.0.0.1:15682 does not answer (refused)"),
        ({"rabbit@kryonix-dev-rabbitmq-2": True}, "it does not see rabbit@kryonix-dev-rabbitmq, rabbit@kryonix"),
        ({"rabbit@other": True}, "it is in a cluster with rabbit@other"),
    ],
)
def test_nodes_that_are_no_cluster_are_named(
    seen: Mapping[str, bool] | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {node.name: True for node in settings(3).nodes}

    def view(url: str, *_: object, **__: object) -> View:
        return View(seen if url.endswith("15682") else whole)

    monkeypatch.setattr(cluster_formed, "Broker", view)
    monkeypatch.setattr(cluster_formed, "_DEADLINE_S", 0)
    nodes = [
        {"node": node.name, "container": node.container, "url": node.local_management_url} for node in settings(3).nodes
    ]
    provider = cluster_formed._ClusterFormedProvider()
    props = {"name": "x", "nodes": nodes, "adminUsername": "admin", "adminPassword": "secret"}
    with pytest.raises(ClusterNotFormed) as refused:
        provider.apply(props)
    assert said in str(refused.value)
    assert "docker logs --tail 50 kryonix-dev-rabbitmq-2" in str(refused.value)
    assert "kryonix-dev-rabbitmq-3:" not in str(refused.value)
    assert "secret" not in str(refused.value)
    seen = whole
    provider.apply(props)


@pytest.mark.parametrize(("absent", "refused"), [((), False), (("b",), False), (("b", "c"), True)])
def test_a_minority_is_refused_by_name(absent: tuple[str, ...], *, refused: bool) -> None:
    broker: Any = View({f"rabbit@{name}": name not in absent for name in "abc"})
    if not refused:
        management.refuse_minority(broker)
        return
    with pytest.raises(MajorityMissing, match=r"2 of 3 nodes .* don't run: rabbit@b, rabbit@c.* majority, 2 nodes"):
        management.refuse_minority(broker)


@pytest.mark.parametrize(("members", "keeps", "size"), [("abc", 1, 3), ("ab", 1, 3), ("abcd", 3, 5), ("abcde", 3, 5)])
def test_members_that_a_killed_grow_has_made_are_not_removed(members: str, keeps: int, size: int) -> None:
    """No output names them yet, so their containers would go, and their volumes."""
    broker: Any = View({f"rabbit@{name}": True for name in members})
    with pytest.raises(ClusterNeedsGrow, match=rf"rabbit@b.* would leave {keeps}.*grow --stack dev --nodes {size}`"):
        management.refuse_fewer_nodes(broker, keeps, "dev")
    management.refuse_fewer_nodes(broker, len(members), "dev")


@pytest.mark.parametrize(
    ("seen", "port"),
    [
        ({1: "abc", 2: "abc", 3: "abc"}, 1),
        ({1: "", 2: "bc", 3: "bc"}, 2),
        ({1: "a", 2: "", 3: "bc"}, 3),
        ({1: "a", 2: "", 3: ""}, 1),
        ({1: "", 2: "", 3: ""}, 1),
    ],
    ids=["all run", "the first is down", "the first is cut off", "a minority", "none answers"],
)
def test_a_run_goes_to_the_first_node_with_a_majority(
    seen: Mapping[int, str], port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`seen` is what the node of each port sees run; nothing if it does not answer."""

    def view(url: str, *_: object, **__: object) -> View:
        running = seen[int(url.rpartition(":")[2])]
        return View({name: name in running for name in "abc"} if running else None)

    monkeypatch.setattr(management, "Broker", view)
    access = BrokerAccess(
        management_url="http://h:1",
        username="u",
        password="p",
        amqp_host="h",
        amqp_port=11,
        management_urls=("http://h:1", "http://h:2", "http://h:3"),
        amqp_addresses=("h:11", "h:12", "h:13"),
    )
    found = management.reached(access)
    assert (found.management_url, found.amqp_port) == (f"http://h:{port}", 10 + port)
    assert found.management_urls == access.management_urls
    balanced = management.reached(replace(access, amqp_addresses=()))
    assert (balanced.management_url, balanced.amqp_port) == (found.management_url, 11), "one address for AMQP"
    alone = replace(access, management_urls=(), amqp_addresses=())
    assert management.reached(alone) == alone, "nobody is asked"


def test_a_replaced_settings_object_has_its_own_nodes() -> None:
    one = settings(1)
    assert len(one.nodes) == 1
    assert len(replace(one, broker_nodes=3).nodes) == 3
