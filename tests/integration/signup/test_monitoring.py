"""Charts and alerts of tenants, from a real Prometheus, or from none."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from kryonix.signup.charts import POINTS
from tests.integration.signup.conftest import Registry, caller, serving
from tests.integration.signup.test_listing import declare
from tests.support.prometheus import HOUR


@pytest.fixture
def http(registry: Registry, prometheus: str) -> Iterator[httpx.Client]:
    for id in ("acme", "acme-2", "quiet"):
        declare(registry, id)
    with serving(registry, prometheus=prometheus) as base, caller(base, registry.key("read")) as made:
        yield made


def charts(http: httpx.Client, tenant: str, hours: int = 1) -> dict[str, Any]:
    answer = http.get(f"/v1/tenants/{tenant}/metrics", params={"hours": hours}).raise_for_status()
    assert len(answer.content) < 40_000
    return dict(answer.json())


def test_a_tenants_figures_are_its_own_and_those_of_its_actions(http: httpx.Client) -> None:
    found = charts(http, "acme")
    assert {len(values) for values in found["figures"].values()} == {POINTS}
    assert found["step"] * (POINTS - 1) == HOUR
    latest = {name: values[-1] for name, values in found["figures"].items()}
    assert latest == pytest.approx(
        {
            "waiting": 40,
            "unacknowledged": 3,
            "fullest_queue": 31,
            "published_per_s": 6,
            "acknowledged_per_s": 6,
            "wait_p95_s": 0.75,
            "consumers": 4,
            "dead_letters": 7,
            "unrouted": 4,
            "connections": 9,
            "channels": 12,
        },
        rel=0.01,
    )
    assert found["limits"] == {"connections": 10, "queue_depth": 1000}


def test_what_is_not_measured_is_absent_and_a_gap_is_null(http: httpx.Client) -> None:
    found = charts(http, "acme-2")
    assert found["figures"]["connections"][-1] == 77
    channels = found["figures"]["channels"]
    assert (channels[0], channels[-1]) == (None, 3)
    assert {"wait_p95_s", "published_per_s", "dead_letters"} & set(found["figures"]) == set()
    assert found["limits"] == {}
    assert charts(http, "quiet", 24)["figures"] == {}
    assert charts(http, "acme", 24)["figures"]["waiting"].count(None) > POINTS / 2
    for hours in ("0", "7", "24.5", "all"):
        assert http.get("/v1/tenants/acme/metrics", params={"hours": hours}).status_code == 422


def test_firing_alerts_are_listed_per_tenant_and_filter_the_list(http: httpx.Client) -> None:
    every = http.get("/v1/alerts").raise_for_status().json()
    assert [(each["name"], each["severity"], each["tenant"]) for each in every["alerts"]] == [
        ("BrokerMemory", "critical", None),
        ("TenantUnconsumed", "critical", "acme-2"),
        ("TenantDepth", "warning", "acme"),
        ("TenantDepth", "info", "acme-2"),
    ]
    (own,) = http.get("/v1/tenants/acme/alerts").raise_for_status().json()["alerts"]
    assert (own["summary"], own["labels"]) == ("TenantDepth of (an address)", {"modulo": "crm"})
    assert own["runbook"] == "/runbooks#tenantqueuebacklog"
    assert http.get("/v1/tenants/quiet/alerts").json() == {"alerts": [], "total": 0}
    page = http.get("/v1/tenants", params={"alerts": "firing"}).raise_for_status().json()
    assert ([each["id"] for each in page["tenants"]], page["total"]) == (["acme", "acme-2"], 2)
    assert http.get("/v1/tenants/nobody/alerts").status_code == 404
    assert http.get("/v1/tenants/nobody/metrics").status_code == 404


PATHS = ("/v1/tenants/acme/metrics", "/v1/tenants/acme/alerts", "/v1/alerts", "/v1/tenants?alerts=firing")


def test_without_a_prometheus_the_answer_says_how_to_turn_it_on(registry: Registry, base: str) -> None:
    declare(registry, "acme")
    with caller(base, registry.key("read")) as http:
        for path in PATHS:
            response = http.get(path)
            assert (response.status_code, response.json()["type"]) == (503, "urn:kryonix:problem:monitoring-off")
            assert "`kryonix:monitoring: true`" in response.json()["detail"]
            assert "retry-after" not in response.headers
        assert [each["id"] for each in http.get("/v1/tenants").json()["tenants"]] == ["acme"]


def test_a_silent_prometheus_delays_nothing_else(registry: Registry) -> None:
    declare(registry, "acme")
    silent = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{silent.getsockname()[1]}"
    with (
        serving(registry, prometheus=address) as base,
        caller(base, registry.key("read")) as http,
        ThreadPoolExecutor() as pool,
    ):
        asked = [pool.submit(http.get, path) for path in PATHS * 20]
        connections = [silent.accept()[0]]  # the service waits for an answer
        assert http.get("/healthz").status_code == 200
        assert not any(each.done() for each in asked)
        assert http.get("/v1/tenants").status_code == 200
        silent.close()
        for each in connections:
            each.close()
        for answered in asked:
            problem = answered.result().json()
            assert problem["type"] == "urn:kryonix:problem:monitoring-unavailable"
            assert "127.0.0.1" not in problem["detail"]
            assert answered.result().headers["retry-after"] == "5"
