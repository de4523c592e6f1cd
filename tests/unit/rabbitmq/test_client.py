"""The client of the management API against servers that answer, refuse, break and stall."""

from __future__ import annotations

import json
import socket
import time
from http.server import BaseHTTPRequestHandler

import pytest
from urllib3 import Timeout

from kryonix.rabbitmq.client import BrokerFailed, BrokerUnavailable, Client
from tests.support.management_api import Answer, by_path, reply, served


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
