"""A broker as operations on tenants and the guard use it."""

from __future__ import annotations

import json
import re
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from pamqp.commands import Queue

from components.errors import BrokerAnswersBadly, BrokerRefuses, BrokerUnreachable
from components.management import administration
from kryonix.rabbitmq import counts
from kryonix.rabbitmq.broker import BindingState, Broker, Filling
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.rabbitmq.counts import BrokerAccess, CountingBroker
from kryonix.topology.credentials import rabbitmq_hash
from kryonix.topology.objects import QueueState, VhostState
from tests.support.management_api import by_path, reply, served


def access(url: str) -> BrokerAccess:
    return BrokerAccess(management_url=url, username="u", password="s3cret", amqp_host="127.0.0.1", amqp_port=1)


def ask(url: str) -> None:
    with administration(access(url)) as broker:
        broker.vhosts()


def test_what_the_broker_says_is_read() -> None:
    queue = {"vhost": "/v", "name": "q", "arguments": {"x-queue-type": "quorum"}, "messages": 3}
    answers = {
        "/api/vhosts": [{"name": "/"}, {"name": "/v", "description": "d"}],
        "/api/queues/%2Fv": [queue, {"vhost": "/v", "name": "empty", "arguments": {}}],
        "/api/queues/%2Fcut": [{"vhost": "/cut", "name": "q", "arguments": {}, "state": "minority"}],
        "/api/queues": [{"vhost": "/v", "name": "q", "message_bytes": 9, "effective_policy_definition": {"ttl": 1}}],
        "/api/queues/%2Fv/q/bindings": [
            {"source": "", "routing_key": "q", "arguments": {}, "properties_key": "q"},
            {"source": "e", "routing_key": "k", "arguments": {}, "properties_key": "k"},
        ],
        "/api/global-parameters": [{"name": "mine-1", "value": [1]}, {"name": "other", "value": 2}],
        "/api/global-parameters/mine-1": {"name": "mine-1", "value": [1]},
        "/api/vhosts/%2Fv/permissions": [{"user": "u"}, {"user": "b"}, {"user": "a"}],
        "/api/user-limits/a": [{"user": "a", "value": {"max-connections": 0}}],
        "/api/vhosts/%2Fv": {"protected_from_deletion": False},
        "/api/definitions/%2Fv": {"queues": []},
    }
    with served(by_path(answers)) as api:
        broker = Broker.of(api.outputs)
        assert broker.vhosts() == [VhostState("/", ""), VhostState("/v", "d")]
        first = QueueState("/v", "q", {"x-queue-type": "quorum"}, 3)
        assert broker.queues("/v") == [first, QueueState("/v", "empty", {}, 0)]
        assert broker.queues("/cut") == [QueueState("/cut", "q", {}, 0, down=True)]
        with pytest.raises(BrokerUnavailable, match=r"can't count the messages of 1 queue\(s\), .* such as q"):
            broker.messages("/cut")
        assert broker.counts("/v") == {"q": 3, "empty": None}
        assert broker.messages("/v") == {"q": 3}
        assert broker.fillings() == [Filling("/v", "q", 0, 9, {"ttl": 1})]
        assert broker.bindings(first) == [BindingState("/v", "e", "q", "k", {}, "k")]
        assert (broker.note("mine-1"), broker.notes("mine-")) == ([1], {"mine-1": [1]})
        assert broker.users("/v") == ["a", "b"]
        assert broker.user_limits("a") == {"max-connections": 0}
        assert (broker.protected("/v"), broker.definitions("/v")) == (False, {"queues": []})
        assert broker.remains("/v", ["u"]) == ["/v"]


def test_a_missing_vhost_has_no_definitions() -> None:
    with served(lambda to: reply(to, 400, b'{"error": "bad_request", "reason": "vhost_not_found"}')) as api:
        assert Broker.of(api.outputs).definitions("/v") == {}
    other = b'{"error": "bad_request", "reason": "another"}'
    with served(lambda to: reply(to, 400, other)) as api, pytest.raises(BrokerUnavailable, match="another"):
        Broker.of(api.outputs).definitions("/v")


def test_a_vhost_is_started_where_it_is_stopped() -> None:
    states = {"rabbit@one": "running", "rabbit@two": "stopped", "rabbit@three": "stopped"}
    with served(by_path({"/api/vhosts/%2Fv": {"cluster_state": states}})) as api:  # starting it is answered 404
        Broker.of(api.outputs).start("/v")
    started = [path for method, path, _ in api.requests if method == "POST"]
    assert started == ["/api/vhosts/%2Fv/start/rabbit%40two", "/api/vhosts/%2Fv/start/rabbit%40three"]


def test_what_does_not_exist_is_empty() -> None:
    with served(by_path({})) as api:
        broker = Broker.of(api.outputs)
        assert [*broker.queues("/v"), *broker.fillings("/v"), *broker.users("/v")] == []
        assert broker.bindings(QueueState("/v", "q", {}, 0)) == []
        assert broker.definitions("/v") == broker.user_limits("a") == broker.messages("/v") == {}
        assert (broker.note("n"), broker.protected("/v"), broker.remains("/v", ["a"])) == (None, None, [])
        binding = BindingState("/v", "e", "q", "k", {}, "a/b")
        broker.bind(binding)
        broker.unbind(binding)
        broker.drop_note("n")
        broker.protect("/v", protected=False)
        broker.start("/v")
        broker.delete_all([("policies", "/v", str(number)) for number in range(20)])
        for refused in (broker.vhosts, lambda: broker.protect("/v", protected=True), lambda: broker.notes("x")):
            with pytest.raises(BrokerUnavailable, match="answered 404"):
                refused()
    path = "/api/bindings/%2Fv/e/e/q/q"
    assert [each[:2] for each in api.requests if "bindings/%2Fv" in each[1]] == [
        ("POST", path),
        ("DELETE", f"{path}/a%2Fb"),
    ]
    assert len({path for _, path, _ in api.requests if path.startswith("/api/policies")}) == 20


def test_users_with_another_password_are_found_and_repaired() -> None:
    right = {"password_hash": rabbitmq_hash("a", "right"), "tags": ["one", "two"]}
    with served(by_path({"/api/users/a": right, "/api/users/a.stats": right})) as api:
        broker = Broker.of(api.outputs)
        assert broker.with_other_password({"a": "right", "missing": "right"}) == []
        assert broker.with_other_password({"a": "wrong", "a.stats": "right"}) == ["a"]
        assert broker.with_other_password({"a": ""}) == ["a"], "it shall have none"
        broker.set_password("a", "new")
        broker.set_password("a", "")
    assert [request for request in api.requests if request[0] == "PUT"] == [
        ("PUT", "/api/users/a", b'{"password":"new","tags":"one,two"}'),
        ("PUT", "/api/users/a", b'{"tags":"one,two"}'),
    ]


def test_users_are_cut_off_until_no_connection_is_open() -> None:
    answers = [b'[{"name": "c"}]', b"[]"]

    def answer(to: BaseHTTPRequestHandler) -> None:
        reply(to, 200, answers.pop(0) if to.command == "GET" else b"")

    with served(answer) as api:
        Broker.of(api.outputs).cut_off(["a"])
    assert [method for method, *_ in api.requests] == ["DELETE", "GET", "DELETE", "GET"]
    assert {each.get("x-reason") for each in api.headers} == {"the tenant is suspended", None}


def test_a_platform_without_outputs_is_not_deployed() -> None:
    with pytest.raises(BrokerUnavailable, match="no admin_password among its outputs: nothing is deployed"):
        Broker.of({"management_url": "http://b:1", "admin_username": "u"})


@pytest.mark.parametrize(
    ("status", "raised", "said"),
    [
        (401, BrokerRefuses, "refuses the user 'u'. Check the stack's credentials"),
        (403, BrokerRefuses, "refuses the user 'u'"),
        (503, BrokerAnswersBadly, "answered 503 to GET /api/vhosts: "),
    ],
)
def test_the_programs_errors_name_the_broker(status: int, raised: type[BrokerUnreachable], said: str) -> None:
    with served(lambda to: reply(to, status)) as api:
        with pytest.raises(raised, match=re.escape(f"the broker at {api.url} {said}")) as error:
            ask(api.url)
        assert "s3cret" not in f"{error.value} {error.value!r} {access(api.url)!r}"
        with administration(access(api.url)) as broker:
            assert broker.answers()


def test_an_absent_broker_is_unreachable_for_the_program() -> None:
    with served(by_path({})) as api:
        pass
    with pytest.raises(BrokerUnreachable, match=r"does not answer .*Start it and run again") as error:
        ask(api.url)
    assert type(error.value) is BrokerUnreachable
    with administration(access(api.url)) as broker:
        assert not broker.answers()


def test_a_queue_that_the_list_with_totals_leaves_out_is_down() -> None:
    queue = {"vhost": "/v", "name": "q", "arguments": {}}

    def answer(to: BaseHTTPRequestHandler) -> None:
        if "/nodes" in to.path:
            found: list[dict[str, Any]] = [{"name": "a", "running": True}, {"name": "b", "running": False}]
        else:
            found = [] if "totals" in to.path else [queue]
        reply(to, 200, json.dumps(found).encode())

    with served(answer) as api:
        assert Broker.of(api.outputs).queues("/v") == [QueueState("/v", "q", {}, 0, down=True)]


def test_a_queue_that_is_down_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its broker may have just started."""
    listed = [QueueState("/v", name, {}, 0, down=down) for name, down in (("up", False), ("down", True))]
    after = [QueueState("/v", "down", {}, 2)]
    monkeypatch.setattr(counts, "_COUNTS_AGE_S", 0)
    monkeypatch.setattr(
        CountingBroker, "_answers", lambda _, queues: {("/v", q.name): Queue.DeclareOk("", 0, 0) for q in queues}
    )
    monkeypatch.setattr(CountingBroker, "queues", lambda _, *vhost: after)
    assert CountingBroker(access("http://127.0.0.1:1")).exact(listed) == [listed[0], *after]
    assert CountingBroker(access("http://127.0.0.1:1")).exact(listed[:1]) == listed[:1]
