"""The management API client against faulty servers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from kryonix.engines.local.errors import ApplyFailed, ServiceUnavailable
from kryonix.engines.local.handlers.management import Management

Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def served(answer: Answer) -> Iterator[Management]:
    """A client of a server that answers every request with `answer`."""

    class Server(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self)

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", "0")))
            answer(self)

        do_POST = do_PUT

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        yield Management({"endpoint": endpoint, "username": "u", "password": "s3cret"})
    finally:
        server.shutdown()
        server.server_close()


def reply(to: BaseHTTPRequestHandler, status: int, body: bytes = b"{}") -> None:
    to.send_response(status)
    to.send_header("content-length", str(len(body)))
    to.end_headers()
    to.wfile.write(body)


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
        api.put(("vhosts", "v"), {}, "declare")
        api.post(("bindings", "v"), {}, "bind")
    assert seen == ["GET", "PUT", "PUT", "POST", "POST"]


def test_a_connection_that_always_breaks_is_an_unreachable_service() -> None:
    def answer(to: BaseHTTPRequestHandler) -> None:
        to.close_connection = True

    with served(answer) as api, pytest.raises(ServiceUnavailable, match=f"{api.endpoint} can't be reached") as error:
        api.get("overview")
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize("status", [301, 502, 503])
def test_a_proxys_error_means_an_unreachable_service(status: int) -> None:
    with served(lambda to: reply(to, status)) as api, pytest.raises(ServiceUnavailable, match=f"HTTP {status}"):
        api.put(("vhosts", "v"), {}, "declare vhost `v`")


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
        api.put(("vhosts", "v"), {}, "declare vhost `v`")
