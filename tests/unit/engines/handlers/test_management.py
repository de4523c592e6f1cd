"""The handlers' management API against faulty servers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest

from kryonix.engines.local.errors import ApplyFailed, ServiceUnavailable
from kryonix.engines.local.handlers.management import Management
from tests.support import management_api
from tests.support.management_api import Answer, reply


@contextmanager
def served(answer: Answer) -> Iterator[Management]:
    """A client of a server that answers every request with `answer`."""
    with management_api.served(answer) as api:
        yield Management({"endpoint": api.url, "username": "u", "password": "s3cret"})


def test_a_dead_kept_alive_connection_is_retried_once() -> None:
    seen: list[str] = []

    def answer(to: BaseHTTPRequestHandler) -> None:
        seen.append(to.command)
        if len(seen) in (2, 4):
            to.connection.shutdown(socket.SHUT_RDWR)
            to.close_connection = True
        else:
            reply(to, 200)

    with served(answer) as api:
        assert api.get("overview") == {}
        api.call("PUT", ("vhosts", "v"), "declare", json={})
        api.call("POST", ("bindings", "v"), "bind", json={})
    assert seen == ["GET", "PUT", "PUT", "POST", "POST"]


def test_a_connection_that_always_breaks_is_an_unreachable_service() -> None:
    def answer(to: BaseHTTPRequestHandler) -> None:
        to.close_connection = True

    with served(answer) as api, pytest.raises(ServiceUnavailable, match=f"{api.endpoint} does not answer") as error:
        api.get("overview")
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize("status", [301, 502, 503])
def test_a_proxys_error_means_an_unreachable_service(status: int) -> None:
    with served(lambda to: reply(to, status)) as api, pytest.raises(ServiceUnavailable, match=f"answered {status}"):
        api.call("PUT", ("vhosts", "v"), "declare vhost `v`", json={})


def test_another_service_than_the_management_api_is_named() -> None:
    with served(lambda to: reply(to, 200, b"<html>")) as api, pytest.raises(ServiceUnavailable, match="sends no JSON"):
        api.get("overview")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"error": "bad_request", "reason": "too long"}', "too long"),
        (b'{"error": "bad_request"}', "bad_request"),
        (b"<html>", "Bad Request"),
    ],
)
def test_a_refusal_carries_the_brokers_reason(body: bytes, reason: str) -> None:
    with (
        served(lambda to: reply(to, 400, body)) as api,
        pytest.raises(ApplyFailed, match=rf"refused to declare vhost `v`: {reason} \(HTTP 400\)"),
    ):
        api.call("PUT", ("vhosts", "v"), "declare vhost `v`", json={})
