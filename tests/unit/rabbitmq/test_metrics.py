"""A broker's metrics, read from servers that answer, refuse, break and stall."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest
from urllib3 import Timeout

from kryonix.checks.live import measured_vhosts
from kryonix.rabbitmq import metrics
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.rabbitmq.metrics import metric_lines
from tests.support.management_api import reply, served

LOGIN = {"metrics_username": "u", "metrics_password": "s3cret"}
FAMILY = "/metrics/detailed?family=vhost_status"


def up(to: BaseHTTPRequestHandler) -> None:
    reply(to, 200, b'# HELP x\nrabbitmq_cluster_vhost_status{vhost="/v"} 1\n')


@pytest.fixture
def silent() -> Iterator[str]:
    """Return the metrics' URL of a node that is frozen: it accepts connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/metrics"


def gone() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}/metrics"


def test_a_broker_of_one_address_is_asked_once_with_its_login() -> None:
    with served(up) as api:
        assert measured_vhosts({"metrics_url": f"{api.url}/metrics", **LOGIN}) == {"/v"}
    assert [path for _, path, _ in api.requests] == [FAMILY]
    assert api.headers[0]["authorization"] == "Basic dTpzM2NyZXQ="


def test_the_next_node_is_read_where_one_is_gone_frozen_or_failing(
    silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "ALIVE", Timeout(connect=1, read=0.1))
    with served(up) as api, served(lambda to: reply(to, 500)) as failing:
        urls = [gone(), silent, f"{failing.url}/metrics", f"{api.url}/metrics"]
        assert measured_vhosts({"metrics_url": urls[0], "metrics_urls": urls, **LOGIN}) == {"/v"}


def test_every_node_that_was_asked_is_named_without_the_password() -> None:
    urls = [gone(), gone()]
    with pytest.raises(BrokerUnavailable) as error:
        measured_vhosts({"metrics_urls": urls, **LOGIN})
    assert all(f"the metrics at {url}/detailed can't be read" in str(error.value) for url in urls)
    assert "s3cret" not in str(error.value)


def test_an_answer_that_ends_early_is_no_broker_without_objects() -> None:
    def cut(to: BaseHTTPRequestHandler) -> None:
        to.send_response(200)
        to.send_header("content-length", "999")
        to.end_headers()
        to.wfile.write(b"first 1\nsec")
        to.close_connection = True

    with served(cut) as api, pytest.raises(BrokerUnavailable, match="can't be read to their end"):
        list(metric_lines({"metrics_url": f"{api.url}/metrics"}, "exchange_bindings", read_s=5))
