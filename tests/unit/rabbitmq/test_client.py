"""The client of the management API against servers that answer, refuse, break and stall."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest
from urllib3 import Timeout

from kryonix.rabbitmq.client import BrokerFailed, BrokerUnavailable, BrokerUntrusted, Client
from tests.support.management_api import Answer, Api, by_path, reply, served
from tests.support.tls import CA, FAULTS, HOST, faulty, serving


def client(url: str, read_s: float = 5) -> Client:
    return Client(url, "u", "s3cret", Timeout(connect=3, read=read_s), maxsize=1)


def breaking(*numbers: int) -> tuple[list[str], Answer]:
    """Return the methods seen, and an answer that closes the connection instead of these requests' answers."""
    seen: list[str] = []

    def answer(to: BaseHTTPRequestHandler) -> None:
        seen.append(to.command)
        if len(seen) in numbers:
            to.connection.shutdown(socket.SHUT_RDWR)
            to.close_connection = True
        else:
            reply(to, 200)

    return seen, answer


def test_segments_queries_and_bodies_arrive_as_they_are() -> None:
    with served(by_path({"/api/queues/%2Fv": [], "/api/users/a%2Fb": {}})) as api, client(api.url + "/") as broker:
        assert broker.get("queues", "/v", columns="name,vhost") == []
        broker.call("PUT", "users", "a/b", json={"password": "ação"})
        broker.call("DELETE", "users", "a/b", reason="removed")
    assert api.requests == [
        ("GET", "/api/queues/%2Fv?columns=name%2Cvhost", b""),
        ("PUT", "/api/users/a%2Fb", '{"password":"ação"}'.encode()),
        ("DELETE", "/api/users/a%2Fb", b""),
    ]
    assert {each["authorization"] for each in api.headers} == {"Basic dTpzM2NyZXQ="}
    assert api.headers[1]["content-type"] == "application/json"
    assert api.headers[2]["x-reason"] == "removed"


def test_a_prefix_of_the_address_is_kept() -> None:
    with served(by_path({"/rabbit/api/whoami": {"name": "u"}})) as api, client(f"{api.url}/rabbit") as broker:
        assert broker.get("whoami") == {"name": "u"}


def test_a_missing_object_is_an_error_unless_it_is_accepted() -> None:
    with served(by_path({})) as api, client(api.url) as broker:
        assert broker.find("users", "gone") is None
        assert broker.listed("users") == ([], True)
        assert broker.call("DELETE", "users", "gone", missing_ok=True).status == 404
        for ask in (broker.get, lambda *path: broker.call("DELETE", *path)):
            with pytest.raises(BrokerFailed, match=r"answered 404 to (GET|DELETE) /api/users/gone") as error:
                ask("users", "gone")
            assert error.value.status == 404


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
def test_a_stale_connection_is_repeated(method: str) -> None:
    seen, answer = breaking(2, 3)
    with served(answer) as api, client(api.url) as broker:
        broker.get("overview")
        broker.call(method, "overview")
    assert seen == ["GET", *[method] * 3]


def test_a_connection_that_always_breaks_is_an_unavailable_broker() -> None:
    _, answer = breaking(*range(9))
    with served(answer) as api, client(api.url) as broker:
        with pytest.raises(BrokerUnavailable, match=f"the broker at {api.url} does not answer") as error:
            broker.get("overview")
        assert error.value.exit_status == 3
        assert "0x" not in str(error.value)


def test_a_slow_answer_is_not_asked_for_again() -> None:
    def answer(to: BaseHTTPRequestHandler) -> None:
        time.sleep(0.6)
        reply(to, 200)

    with served(answer) as api, client(api.url, read_s=0.1) as broker:
        with pytest.raises(BrokerUnavailable, match=r"does not answer .*timed out"):
            broker.get("overview")
        assert len(api.requests) == 1


def test_nobody_listening_is_named_with_the_reason() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(BrokerUnavailable, match=rf"^the broker at {url} does not answer \(.*refused\). Start it"):
            client(url).get("overview")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"error": "bad_request", "reason": "too long"}', "too long"),
        (b'{"error": "bad_request"}', "bad_request"),
        (b"<html>", "Bad Request"),
        (b'"%s"' % (b"x" * 999), "x" * 200),
    ],
)
def test_a_refusal_carries_the_brokers_reason(body: bytes, reason: str) -> None:
    with served(lambda to: reply(to, 400, body)) as api, client(api.url) as broker:
        with pytest.raises(BrokerFailed) as error:
            broker.call("PUT", "vhosts", "v")
        assert (error.value.status, error.value.reason) == (400, reason)
        assert error.value.problem == f"answered 400 to PUT /api/vhosts/v: {reason}"


def test_a_redirect_is_not_followed() -> None:
    with served(lambda to: reply(to, 301)) as api, client(api.url) as broker:
        with pytest.raises(BrokerFailed, match="answered 301"):
            broker.get("overview")
        assert len(api.requests) == 1


def test_another_service_than_the_management_api_is_an_error() -> None:
    with served(lambda to: reply(to, 200, b"<html>")) as api, client(api.url) as broker:
        for ask in (broker.get, broker.find, broker.listed):
            with pytest.raises(BrokerFailed, match="sends no JSON to GET /api/overview"):
                ask("overview")


@pytest.mark.parametrize(
    "url", ["broker:15672", "ftp://broker", "http://", "http://[::1", "http://b:99999999", "http://a:s3cret@b"]
)
def test_an_invalid_address_is_refused_without_its_credentials(url: str) -> None:
    with pytest.raises(BrokerUnavailable, match="is not a URL such as") as error:
        client(url)
    assert "s3cret" not in str(error.value)


def test_no_password_is_in_an_error_or_a_repr() -> None:
    with served(lambda to: reply(to, 500)) as api:
        broker = client(api.url)
        with pytest.raises(BrokerFailed) as error:
            broker.call("PUT", "users", "x", json={"password": "s3cret"})
        assert "s3cret" not in f"{error.value} {error.value!r} {error.value.__cause__!r} {broker!r}"


def test_a_list_is_read_up_to_16_mib_and_the_client_goes_on() -> None:
    entry = {"name": "x" * 1000}
    many, few = (json.dumps([entry] * count, separators=(",", ":")).encode() for count in (17_000, 1))
    with served(lambda to: reply(to, 200, many if to.path == "/api/many" else few)) as api, client(api.url) as broker:
        for _ in range(2):  # more than there are connections in the pool
            found, complete = broker.listed("many")
            assert (found[-1], complete) == (entry, False)
            assert 16_000 < len(found) < 17_000
        assert broker.listed("few") == ([entry], True)


def several(*urls: str, read_s: float = 5, ca_certificate: str = "") -> Client:
    timeout = Timeout(connect=3, read=read_s)
    return Client(urls[0], "u", "s3cret", timeout, further_urls=urls, ca_certificate=ca_certificate, maxsize=1)


@contextmanager
def nobody() -> Iterator[str]:
    """The address of a port that refuses connections."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{free.getsockname()[1]}"


def overviews(api: Api) -> int:
    return sum(path == "/api/overview" for _, path, _ in api.requests)


def test_the_next_node_is_asked_where_one_does_not_connect() -> None:
    with nobody() as gone, served(by_path({"/api/overview": {}})) as api, several(gone, api.url) as broker:
        assert [broker.get("overview") for _ in range(3)] == [{}] * 3
        assert overviews(api) == 3


def test_a_frozen_node_is_left_before_the_request_and_then_avoided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kryonix.rabbitmq.client.ALIVE", Timeout(connect=3, read=0.3))
    with socket.create_server(("127.0.0.1", 0)) as frozen, served(by_path({"/api/overview": {}})) as api:
        silent = f"http://127.0.0.1:{frozen.getsockname()[1]}"  # the kernel accepts, and nobody answers
        with several(silent, api.url, read_s=60) as broker:
            broker.get("overview")
            frozen.close()
            began = time.monotonic()
            broker.get("overview")
            assert time.monotonic() - began < 30
        assert overviews(api) == 2


def test_a_node_that_one_client_found_silent_is_asked_last_by_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kryonix.rabbitmq.client.ALIVE", Timeout(connect=3, read=0.3))
    with socket.create_server(("127.0.0.1", 0)) as frozen, served(by_path({"/api/overview": {}})) as api:
        silent = f"http://127.0.0.1:{frozen.getsockname()[1]}"
        for _ in range(3):
            with several(silent, api.url) as broker:
                broker.get("overview")
        frozen.setblocking(False)
        frozen.accept()
        with pytest.raises(BlockingIOError):  # nobody else has called
            frozen.accept()


def test_a_node_that_stops_answering_is_left_for_the_next() -> None:
    def answer(to: BaseHTTPRequestHandler) -> None:
        if to.path == "/api/overview":
            time.sleep(1)
        reply(to, 200)

    with (
        served(answer) as slow,
        served(by_path({"/api/overview": {}})) as api,
        several(slow.url, api.url, read_s=0.2) as broker,
    ):
        assert broker.get("overview") == {}
    assert (overviews(slow), overviews(api)) == (1, 1)


@pytest.mark.parametrize("status", [500, 503, 400])
def test_a_node_without_a_majority_leaves_a_change_to_the_next(status: int) -> None:
    with (
        served(lambda to: reply(to, status, b'{"reason": "timeout"}')) as minority,
        served(lambda to: reply(to, 201)) as api,
        several(minority.url, api.url) as broker,
    ):
        assert broker.call("PUT", "vhosts", "v").status == 201
        asked = len(minority.requests)
        assert broker.call("PUT", "vhosts", "w").status == 201
        assert len(minority.requests) == asked  # the next one goes to the node that could
        with pytest.raises(BrokerFailed):
            several(minority.url).call("PUT", "vhosts", "v")


def test_a_node_that_starts_leaves_a_question_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it knows the others, GET /api/nodes is a 500 without a body."""
    monkeypatch.setattr("kryonix.rabbitmq.client.PATIENCE_S", 0.0)
    with (
        served(lambda to: reply(to, 500, b"")) as starting,
        served(by_path({"/api/nodes": [{}]})) as api,
        several(starting.url, api.url) as broker,
    ):
        assert broker.get("nodes") == broker.listed("nodes")[0] == [{}]
        with several(starting.url) as alone, pytest.raises(BrokerFailed, match="answered 500"):
            alone.get("nodes")


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_node_that_starts_is_asked_again(method: str) -> None:
    answers = [b"", b"", b"{}"]

    def answer(to: BaseHTTPRequestHandler) -> None:
        body = answers.pop(0)
        reply(to, 200 if body else 500, body)

    with served(answer) as api, client(api.url) as broker:
        assert broker.call(method, "nodes").data == b"{}"


def test_the_patience_with_a_node_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kryonix.rabbitmq.client.PATIENCE_S", 0.5)
    with served(lambda to: reply(to, 500, b"")) as api, client(api.url) as broker:
        for asked in (3, 4):
            with pytest.raises(BrokerFailed, match="answered 500"):
                broker.get("nodes")
            assert len(api.requests) == asked


def test_a_failure_in_words_is_an_answer() -> None:
    with served(lambda to: reply(to, 500, b'{"reason": "no"}')) as api, client(api.url) as broker:
        with pytest.raises(BrokerFailed, match="no"):
            broker.get("nodes")
        assert len(api.requests) == 1


def test_a_node_that_stops_has_nothing_to_say_of_objects() -> None:
    """It answers 404 to everything for a moment, and a change that was not made would count as made."""
    with (
        served(lambda to: reply(to, 404)) as stopping,
        served(by_path({"/api/users/u": {}})) as api,
        several(stopping.url, api.url) as broker,
    ):
        assert broker.find("users", "u") == {}
        with several(stopping.url) as alone:
            for ask in (alone.find, alone.listed, lambda *path: alone.call("DELETE", *path, missing_ok=True)):
                with pytest.raises(BrokerUnavailable, match="it has no management API: it stops, or is another"):
                    ask("users", "u")


def test_a_health_check_that_fails_is_an_answer() -> None:
    with (
        served(lambda to: reply(to, 503, b'{"reason": "memory"}')) as alarmed,
        served(lambda to: reply(to, 200)) as api,
    ):
        with several(alarmed.url, api.url) as broker, pytest.raises(BrokerFailed, match="memory"):
            broker.get("health", "checks", "alarms")
        assert api.requests == []


def test_every_node_that_was_asked_is_named() -> None:
    with nobody() as one, nobody() as two, pytest.raises(BrokerUnavailable) as error:
        several(one, two).get("overview")
    refused = r"does not answer \(.*refused\)"
    assert re.match(rf"the broker at {one} {refused}; {two} {refused}\. Start it", str(error.value))


def test_a_port_with_tls_is_told_from_a_broker_that_is_away() -> None:
    def alert(to: BaseHTTPRequestHandler) -> None:
        to.wfile.write(b"\x15\x03\x03\x00\x02\x02\x46")
        to.close_connection = True

    refused = pytest.raises(BrokerUnavailable, match="this port has TLS, and http:// is without it")
    with served(alert) as api, client(api.url) as broker, refused:
        broker.get("overview")


def test_a_certificate_of_a_trusted_ca_is_accepted_by_the_client() -> None:
    with serving(faulty("good")) as port, several(f"https://{HOST}:{port}", ca_certificate=CA.pem) as broker:
        assert broker.call("DELETE", "users", "gone").status == 204


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_tls_is_refused_by_its_name(fault: str) -> None:
    with serving(faulty(fault)) as port:
        broker = several(f"https://{HOST}:{port}", ca_certificate=CA.pem)
        with pytest.raises(BrokerUntrusted, match=f"can't be trusted: {fault}: .*{HOST}:{port}") as error:
            broker.get("overview")
        assert "Start it" not in str(error.value)


def test_without_a_ca_of_its_own_the_systems_are_trusted() -> None:
    untrusted = pytest.raises(BrokerUnavailable, match="can't be trusted: wrong CA")
    with serving(faulty("good")) as port, several(f"https://{HOST}:{port}") as broker, untrusted:
        broker.get("overview")
