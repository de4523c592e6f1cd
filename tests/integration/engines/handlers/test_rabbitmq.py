"""RabbitMQ handlers against a real broker: create, read, repair and delete."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest

from kryonix.engines.local.errors import ApplyFailed, ServiceUnavailable
from kryonix.engines.local.handlers import Handler, LiveResource, Provider
from tests.support.project import free_port

from .conftest import Broker


@pytest.fixture
def rabbitmq(broker: Broker) -> Iterator[Provider]:
    opened = broker.provider()
    yield opened
    opened.close()


@pytest.fixture
def vhost(rabbitmq: Provider, unique: str) -> Iterator[str]:
    """A vhost with a slash, a space and a percent sign in its name."""
    handler = rabbitmq.handler("rabbitmq:index/vHost:VHost")
    name = f"/{unique} 50%"
    made = handler.create(handler.check(None, {"name": name}))
    yield name
    handler.delete(made[0], {"name": name}, made[1])


def make(handler: Handler, inputs: dict[str, Any]) -> tuple[str, dict[str, Any], dict[str, Any]]:
    checked = handler.check(None, inputs)
    id, outputs = handler.create(checked)
    return id, checked, outputs


def unchanged(handler: Handler, id: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> bool:
    live = handler.read(id, inputs, outputs)
    return live is not None and not handler.diff(id, live.inputs, live.outputs, inputs).changed


def repaired(handler: Handler, id: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> tuple[str, ...]:
    """Return the changes that a refresh and an up find and repair."""
    live = handler.read(id, inputs, outputs)
    assert isinstance(live, LiveResource)
    diff = handler.diff(id, live.inputs, live.outputs, inputs)
    assert not diff.replaces
    outputs = handler.update(id, live.inputs, live.outputs, inputs)
    assert unchanged(handler, id, inputs, outputs)
    return diff.changed


def api_name(name: str) -> str:
    return quote(name, safe="")


def test_a_vhosts_limits_are_set_changed_cleared_and_repaired(rabbitmq: Provider, broker: Broker, unique: str) -> None:
    handler = rabbitmq.handler("rabbitmq:index/vHost:VHost")
    id, inputs, outputs = make(handler, {"name": unique, "maxConnections": "10", "maxQueues": "50", "description": "d"})
    limits = f"/api/vhost-limits/{unique}"
    assert id == unique
    assert broker.api.get(limits).json()[0]["value"] == {"max-connections": 10, "max-queues": 50}
    assert unchanged(handler, id, inputs, outputs)

    broker.api.delete(f"{limits}/max-queues")
    assert repaired(handler, id, inputs, outputs) == ("maxQueues",)

    handler.update(id, inputs, outputs, handler.check(inputs, {"name": unique, "maxConnections": "0"}))
    assert broker.api.get(limits).json()[0]["value"] == {"max-connections": 0}

    without = handler.check(inputs, {"name": unique})
    outputs = handler.update(id, inputs, outputs, without)
    assert broker.api.get(limits).json() == []
    broker.api.put(f"{limits}/max-connections", json={"value": 7})
    assert repaired(handler, id, without, outputs) == ("maxConnections",)

    handler.delete(id, without, outputs)
    handler.delete(id, without, outputs)
    assert handler.read(id, without, outputs) is None


def test_an_update_of_a_vhost_keeps_what_this_resource_does_not_manage(
    rabbitmq: Provider, broker: Broker, unique: str
) -> None:
    handler = rabbitmq.handler("rabbitmq:index/vHost:VHost")
    broker.api.put(f"/api/vhosts/{unique}", json={"tags": "kept"})
    id, inputs, outputs = make(handler, {"name": unique, "defaultQueueType": "quorum"})
    handler.update(id, inputs, outputs, handler.check(inputs, {**inputs, "description": "new"}))
    found = broker.api.get(f"/api/vhosts/{unique}").json()
    handler.delete(id, inputs, outputs)
    assert (found["description"], found["default_queue_type"], found["tags"]) == ("new", "quorum", ["kept"])


def test_a_vhost_closed_to_its_creator_is_repaired_by_recreation(
    rabbitmq: Provider, broker: Broker, unique: str
) -> None:
    handler = rabbitmq.handler("rabbitmq:index/vHost:VHost")
    broker.api.put(f"/api/vhosts/{unique}", json={})
    broker.api.delete(f"/api/permissions/{unique}/guest")
    id, inputs, outputs = make(handler, {"name": unique})
    queues = rabbitmq.handler("rabbitmq:index/queue:Queue")
    assert queues.read(*make(queues, {"name": "q", "vhost": unique, "settings": {"durable": True}})) is not None
    handler.delete(id, inputs, outputs)


def test_a_protected_vhost_is_not_deleted_and_the_broker_says_why(
    rabbitmq: Provider, broker: Broker, unique: str
) -> None:
    handler = rabbitmq.handler("rabbitmq:index/vHost:VHost")
    id, inputs, outputs = make(handler, {"name": unique})
    broker.api.post(f"/api/vhosts/{unique}/deletion/protection")
    with pytest.raises(ApplyFailed, match=f"delete vhost `{unique}`.*protected"):
        handler.delete(id, inputs, outputs)
    broker.api.delete(f"/api/vhosts/{unique}/deletion/protection")
    handler.delete(id, inputs, outputs)


def test_a_users_password_and_tags_are_set_and_repaired(rabbitmq: Provider, broker: Broker, unique: str) -> None:
    handler = rabbitmq.handler("rabbitmq:index/user:User")
    id, inputs, outputs = make(handler, {"name": unique, "password": "pä ss:1", "tags": ["management", "policymaker"]})
    assert broker.api.get("/api/whoami", auth=(unique, "pä ss:1")).status_code == 200
    assert unchanged(handler, id, inputs, outputs)

    broker.api.put(f"/api/users/{unique}", json={"password": "other", "tags": "management"})
    assert repaired(handler, id, inputs, outputs) == ("password", "tags")
    assert broker.api.get("/api/whoami", auth=(unique, "pä ss:1")).status_code == 200

    handler.delete(id, inputs, outputs)
    assert handler.read(id, inputs, outputs) is None


def test_a_user_without_a_password_is_made_and_stays_without(rabbitmq: Provider, broker: Broker, unique: str) -> None:
    handler = rabbitmq.handler("rabbitmq:index/user:User")
    id, inputs, outputs = make(handler, {"name": unique, "password": "", "tags": []})
    assert broker.api.get(f"/api/users/{unique}").json()["password_hash"] == ""
    assert unchanged(handler, id, inputs, outputs)
    for password in ("", "guessed"):
        assert broker.api.get("/api/whoami", auth=(unique, password)).status_code == 401

    broker.api.put(f"/api/users/{unique}", json={"password": "by hand", "tags": ""})
    assert repaired(handler, id, inputs, outputs) == ("password",)
    assert broker.api.get(f"/api/users/{unique}").json()["password_hash"] == ""
    handler.delete(id, inputs, outputs)


def test_permissions_are_set_and_repaired(rabbitmq: Provider, broker: Broker, vhost: str) -> None:
    handler = rabbitmq.handler("rabbitmq:index/permissions:Permissions")
    granted = {"configure": "^$", "write": "^a(\\.|$)", "read": ""}
    id, inputs, outputs = make(handler, {"user": "guest", "vhost": vhost, "permissions": granted})
    path = f"/api/permissions/{api_name(vhost)}/guest"
    assert id == f"guest@{vhost}"
    assert {part: broker.api.get(path).json()[part] for part in granted} == granted
    assert unchanged(handler, id, inputs, outputs)

    broker.api.put(path, json={"configure": ".*", "write": ".*", "read": ".*"})
    assert repaired(handler, id, inputs, outputs) == ("permissions",)
    broker.api.delete(path)
    assert handler.read(id, inputs, outputs) is None
    handler.delete(id, inputs, outputs)


def test_queues_and_exchanges_with_odd_names_work(rabbitmq: Provider, vhost: str) -> None:
    odd = "fila/nº 1?#&%2F"
    exchanges, queues = (
        rabbitmq.handler("rabbitmq:index/exchange:Exchange"),
        rabbitmq.handler("rabbitmq:index/queue:Queue"),
    )
    settings = {"type": "topic", "durable": True, "arguments": {"alternate-exchange": "outra"}}
    made = make(exchanges, {"name": odd, "vhost": vhost, "settings": settings})
    assert made[0] == f"{odd}@{vhost}"
    assert unchanged(exchanges, *made)
    arguments = '{"x-queue-type": "quorum", "x-max-length": 10}'
    queue = make(queues, {"name": odd, "vhost": vhost, "settings": {"durable": True, "argumentsJson": arguments}})
    assert unchanged(queues, *queue)
    for handler, (id, inputs, outputs) in ((queues, queue), (exchanges, made)):
        handler.delete(id, inputs, outputs)
        assert handler.read(id, inputs, outputs) is None
        handler.delete(id, inputs, outputs)


def test_a_queue_with_other_arguments_fails_with_the_brokers_reason(rabbitmq: Provider, vhost: str) -> None:
    queues = rabbitmq.handler("rabbitmq:index/queue:Queue")
    inputs = {"name": "q", "vhost": vhost, "settings": {"durable": True}}
    make(queues, inputs)
    make(queues, inputs)
    with pytest.raises(ApplyFailed, match=r"declare queue `q` in vhost.*inequivalent arg 'x-max-length'"):
        make(queues, {**inputs, "settings": {"durable": True, "argumentsJson": '{"x-max-length": 1}'}})


@pytest.mark.parametrize("key", ["", "a.b.*", "a/b c%2F#"])
def test_a_binding_is_created_found_and_removed_by_its_key(rabbitmq: Provider, vhost: str, key: str) -> None:
    exchanges, queues = (
        rabbitmq.handler("rabbitmq:index/exchange:Exchange"),
        rabbitmq.handler("rabbitmq:index/queue:Queue"),
    )
    bindings = rabbitmq.handler("rabbitmq:index/binding:Binding")
    make(exchanges, {"name": "e", "vhost": vhost, "settings": {"type": "topic", "durable": True}})
    make(queues, {"name": "q", "vhost": vhost, "settings": {"durable": True}})
    between = {"source": "e", "vhost": vhost, "destination": "q", "destinationType": "queue"}
    made = make(bindings, {**between, "routingKey": key})
    id, inputs, outputs = made
    assert id.startswith(f"{vhost.replace('%', '%25').replace('/', '%2F')}/e/q/queue/")
    assert id.endswith(outputs["propertiesKey"])
    assert make(bindings, inputs)[0] == id
    assert unchanged(bindings, *made)
    bindings.delete(id, inputs, outputs)
    assert bindings.read(id, inputs, outputs) is None
    bindings.delete(id, inputs, outputs)


@pytest.mark.parametrize(
    ("type", "collection", "apply_to"),
    [("policy:Policy", "policies", "queues"), ("operatorPolicy:OperatorPolicy", "operator-policies", "quorum_queues")],
)
def test_policy_numbers_stay_numbers_and_manual_changes_are_repaired(
    rabbitmq: Provider, broker: Broker, vhost: str, type: str, collection: str, apply_to: str
) -> None:
    handler = rabbitmq.handler(f"rabbitmq:index/{type}")
    definition = {"max-length": "100", "overflow": "reject-publish"}
    policy = {"pattern": "^a", "priority": 2, "applyTo": apply_to, "definition": definition}
    id, inputs, outputs = make(handler, {"name": "modulo-crm", "vhost": vhost, "policy": policy})
    path = f"/api/{collection}/{api_name(vhost)}/modulo-crm"
    found = broker.api.get(path).json()
    assert found["definition"] == {"max-length": 100, "overflow": "reject-publish"}
    assert unchanged(handler, id, inputs, outputs)

    broker.api.put(path, json={**found, "definition": {"max-length": 5, "delivery-limit": 3}})
    assert repaired(handler, id, inputs, outputs) == ("policy",)
    assert broker.api.get(path).json()["definition"] == found["definition"]
    handler.delete(id, inputs, outputs)
    assert handler.read(id, inputs, outputs) is None
    handler.delete(id, inputs, outputs)


def test_objects_of_a_deleted_vhost_are_missing(rabbitmq: Provider, unique: str) -> None:
    queues, bindings = (
        rabbitmq.handler("rabbitmq:index/queue:Queue"),
        rabbitmq.handler("rabbitmq:index/binding:Binding"),
    )
    queue = queues.check(None, {"name": "q", "vhost": unique, "settings": {}})
    between = {"source": "e", "vhost": unique, "destination": "q", "destinationType": "queue"}
    binding = bindings.check(None, between)
    assert queues.read(f"q@{unique}", queue, queue) is None
    assert bindings.read(f"{unique}/e/q/queue/~", binding, {**binding, "propertiesKey": "~"}) is None
    queues.delete(f"q@{unique}", queue, queue)
    bindings.delete(f"{unique}/e/q/queue/~", binding, {**binding, "propertiesKey": "~"})


def test_a_wrong_password_names_the_user_and_never_the_password(broker: Broker, unique: str) -> None:
    handler = broker.provider(password="s3cret-wrong").handler("rabbitmq:index/vHost:VHost")
    with pytest.raises(ServiceUnavailable, match=f"{broker.endpoint} refuses the password of user 'guest'") as error:
        make(handler, {"name": unique})
    assert "s3cret" not in str(error.value)


def test_a_user_without_rights_is_refused_with_the_brokers_reason(broker: Broker, unique: str) -> None:
    users = broker.provider().handler("rabbitmq:index/user:User")
    id, inputs, outputs = make(users, {"name": unique, "password": "p", "tags": ["management"]})
    handler = broker.provider(username=unique, password="p").handler("rabbitmq:index/vHost:VHost")
    with pytest.raises(ApplyFailed, match=f"`{unique}`: Not administrator user"):
        make(handler, {"name": unique})
    users.delete(id, inputs, outputs)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_stopped_broker_is_named_with_a_remedy(broker: Broker, scheme: str) -> None:
    endpoint = f"{scheme}://127.0.0.1:{free_port()}"
    with pytest.raises(ServiceUnavailable, match=f"{endpoint} does not answer .*refused.*Start the broker"):
        make(broker.provider(endpoint=endpoint).handler("rabbitmq:index/vHost:VHost"), {"name": "x"})


def test_https_to_a_plain_port_is_named(broker: Broker) -> None:
    endpoint = broker.endpoint.replace("http://", "https://")
    with pytest.raises(ServiceUnavailable, match=f"{endpoint} can't be trusted"):
        make(broker.provider(endpoint=endpoint).handler("rabbitmq:index/vHost:VHost"), {"name": "x"})


def test_sixteen_threads_create_a_full_tenants_objects(rabbitmq: Provider, broker: Broker, unique: str) -> None:
    vhosts = rabbitmq.handler("rabbitmq:index/vHost:VHost")
    id, inputs, outputs = make(vhosts, {"name": unique})
    exchanges = [_exchange(unique, number) for number in range(13)]
    queues = [_queue(unique, number) for number in range(87)]
    bindings = [_binding(unique, number) for number in range(165)]
    policies = [_policy(unique, number) for number in range(9)]
    with ThreadPoolExecutor(16) as pool:
        for batch in (exchanges + queues, bindings + policies):
            list(pool.map(lambda item: make(rabbitmq.handler(item[0]), item[1]), batch))
    kinds = {
        kind: len(broker.api.get(f"/api/{kind}/{unique}", params=params).raise_for_status().json())
        for kind, params in (("queues", {"disable_stats": "true"}), ("bindings", {}), ("policies", {}))
    }
    vhosts.delete(id, inputs, outputs)
    assert kinds == {"queues": 87, "bindings": 87 + 165, "policies": 9}, "a queue has a binding by default"


def _exchange(vhost: str, number: int) -> tuple[str, dict[str, Any]]:
    settings = {"type": "topic", "durable": True}
    return "rabbitmq:index/exchange:Exchange", {"name": f"e{number}", "vhost": vhost, "settings": settings}


def _queue(vhost: str, number: int) -> tuple[str, dict[str, Any]]:
    settings = {"durable": True, "argumentsJson": '{"x-queue-type": "quorum"}'}
    return "rabbitmq:index/queue:Queue", {"name": f"q{number}", "vhost": vhost, "settings": settings}


def _binding(vhost: str, number: int) -> tuple[str, dict[str, Any]]:
    between = {"source": f"e{number % 13}", "destination": f"q{number % 87}", "destinationType": "queue"}
    return "rabbitmq:index/binding:Binding", {**between, "vhost": vhost, "routingKey": f"k{number}.*"}


def _policy(vhost: str, number: int) -> tuple[str, dict[str, Any]]:
    policy = {"pattern": f"^q{number}$", "priority": 1, "applyTo": "queues", "definition": {"max-length": "100"}}
    return "rabbitmq:index/policy:Policy", {"name": f"p{number}", "vhost": vhost, "policy": policy}
