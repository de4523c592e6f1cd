"""Callers without a key are rate limited and cause no unbounded growth."""

from __future__ import annotations

import logging
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from tests.integration.signup.conftest import Registry, caller, serving
from tests.support.waiting import eventually


def raw(base: str, *requests: bytes) -> bytes:
    """Everything that is answered to bytes on one connection."""
    address = urlsplit(base)
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        connection.sendall(b"".join(requests))
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def series(text: str) -> int:
    return sum(not line.startswith("#") for line in text.splitlines())


def test_unknown_methods_add_no_metrics(base: str) -> None:
    with caller(base) as http:
        http.get("/metrics")
        http.request("EVIL", "/")
        before = series(http.get("/metrics").text)
        for number in range(3000):
            http.request(f"EVIL{number:06}AAAA", "/" if number % 2 else f"/v1/{number}")
        text = http.get("/metrics").text
    assert "EVIL" not in text
    assert 'method="other"' in text
    assert series(text) <= before + 20


def test_log_and_audit_fields_are_bounded(base: str, registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with caller(base) as http:
        http.request("M" * 10_000, f"/v1/{'p' * 10_000}")
        http.get("/v1/tenants", headers={"X-Forwarded-For": "f" * 10_000})
        http.get("/v1/tenants", headers={"X-Forwarded-For": "203.0.113.9"})
    audited = "SELECT method, path, peer FROM signup.audit ORDER BY id"
    eventually("all three are recorded", lambda: len(registry.query(audited)) == 3)
    rows = registry.query(audited)
    assert [len(row["method"]) <= 16 and len(row["path"]) <= 300 for row in rows] == [True] * 3
    assert {row["peer"] for row in rows} == {"127.0.0.1", "unknown", "203.0.113.9"}
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("kryonix")]
    assert len(ours) >= 3
    assert max(map(len, ours)) < 500


PATHS = (
    "/", "/page.js", "/nothing", "/v1/nothing", "/v1/tenants", "/openapi.json", "/healthz", "/readyz", "/metrics"
)  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_callers_without_a_key_are_rate_limited(registry: Registry, path: str) -> None:
    admin = registry.key("admin")
    with serving(registry, per_second=0.01, burst=5) as base, caller(base) as nobody:
        statuses = Counter(nobody.get(path).status_code for _ in range(40))
        assert statuses[429] == 35, statuses
        told = nobody.get(path)
        assert told.json()["type"] == "urn:kryonix:problem:too-many-requests"
        assert int(told.headers["retry-after"]) >= 1
        assert nobody.request("POST", path, content=b" " * 100_000).status_code == 429, "not even by what is refused"
        with caller(base, admin) as http:
            assert http.get("/v1/tenants").status_code == 200, "who has a key is not kept out by it"


def test_a_probe_succeeds_during_a_flood_from_elsewhere(registry: Registry) -> None:
    with serving(registry, per_second=0.01, burst=5) as base, caller(base) as nobody:
        assert [nobody.get("/").status_code for _ in range(20)].count(429) == 15
        assert nobody.get("/healthz").status_code == 200


def test_key_guesses_query_the_database_within_the_rate(registry: Registry) -> None:
    admin = registry.key("admin")
    with serving(registry, per_second=0.01, burst=5) as base, caller(base) as nobody:
        with caller(base, admin) as http:
            assert http.get("/v1/tenants").status_code == 200
        forged = [f"Bearer kx_{number:012x}_{'x' * 43}" for number in range(40)]
        statuses = Counter(nobody.get("/v1/tenants", headers={"Authorization": each}).status_code for each in forged)
        assert statuses[401] <= 5
        assert statuses[429] >= 35
        with caller(base, admin) as http:
            assert http.get("/v1/tenants").status_code == 200, "a key that was valid is none of the guesses"


def test_an_ipv6_address_counts_as_its_network(registry: Registry) -> None:
    with serving(registry, per_second=0.01, burst=5) as base, caller(base) as nobody:
        # uvicorn takes a proxy's word for the address where the proxy is on this machine.
        addresses = [{"X-Forwarded-For": f"2001:db8:1:2::{number:x}"} for number in range(20)]
        statuses = Counter(nobody.get("/", headers=each).status_code for each in addresses)
        assert statuses == {200: 5, 429: 15}
        assert nobody.get("/", headers={"X-Forwarded-For": "2001:db8:1:3::1"}).status_code == 200


def test_requests_without_a_key_leave_few_audit_rows(base: str, registry: Registry) -> None:
    admin = registry.key("admin")
    with caller(base) as nobody, caller(base, admin) as http:
        for number in range(300):
            assert nobody.get(f"/v1/{number}").status_code == 404
        for _ in range(100):
            assert http.get("/v1/catalog").status_code == 200
    count = "SELECT count(*) FILTER (WHERE key_id IS NULL) AS nobody, count(key_id) AS known FROM signup.audit"
    eventually("all of those with a key are recorded", lambda: registry.query(count)[0]["known"] == 100)
    (row,) = registry.query(count)
    assert 60 <= row["nobody"] <= 200, "a row a second, and 60 at once"


def test_many_scrapers_cost_one_database_query(base: str, registry: Registry) -> None:
    admin = registry.key("admin")
    with caller(base) as http:
        http.get("/metrics")

    registry.query("CREATE SEQUENCE IF NOT EXISTS signup.looks")
    registry.query("GRANT USAGE ON SEQUENCE signup.looks TO kryonix_signup")
    registry.query("ALTER TABLE signup.outbox ENABLE ROW LEVEL SECURITY")
    registry.query("DROP POLICY IF EXISTS looks ON signup.outbox")
    registry.query("CREATE POLICY looks ON signup.outbox USING (nextval('signup.looks') > 0) WITH CHECK (true)")
    registry.query("INSERT INTO signup.outbox (event, tenant, payload) VALUES ('seen', 'nobody', '{}')")
    try:
        with ThreadPoolExecutor(20) as pool, caller(base) as http, caller(base, admin) as known:
            answers = list(pool.map(lambda _: http.get("/metrics").status_code, range(400)))
            assert known.get("/v1/tenants").status_code == 200
        assert answers == [200] * 400
        (row,) = registry.query("SELECT last_value, is_called FROM signup.looks")
        assert row["last_value"] <= 20, "400 scrapes, and the database was asked each few seconds"
    finally:
        registry.query("ALTER TABLE signup.outbox DISABLE ROW LEVEL SECURITY")
        registry.query("DROP POLICY looks ON signup.outbox")
        registry.query("DROP SEQUENCE signup.looks")


def test_a_body_with_two_lengths_is_refused_and_smuggles_no_request(base: str) -> None:
    smuggled = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    head = b"POST /v1/tenants HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    for lengths in (
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n",
    ):
        answer = raw(base, head, lengths, b"0\r\n\r\n", smuggled)
        assert answer.startswith(b"HTTP/1.1 400 "), answer[:200]
        assert answer.count(b"HTTP/1.1 ") == 1, answer
        assert b"Content-Length and Transfer-Encoding" in answer
