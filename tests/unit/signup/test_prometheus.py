"""The platform's Prometheus: its address, what is asked, and answers that several callers share."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from kryonix.errors import InvalidChoice
from kryonix.monitoring.prometheus import Prometheus, PrometheusUnavailable, data_of
from kryonix.signup.alerts import AlertAnswer, Alerts, AlertsAnswer
from kryonix.signup.charts import Charts, Hours, figures_query, limits_query
from kryonix.signup.errors import MonitoringOff, MonitoringUnavailable
from kryonix.signup.problems import for_callers, problem_of, retry_after
from kryonix.signup.prometheus import LOGIN_FILE_VARIABLE, Monitoring, PrometheusAddress, Recent, quoted
from tests.unit.signup.test_rate import Clock

OUTPUTS = {"prometheus_url": "http://127.0.0.1:9090", "monitoring_username": "kryonix", "monitoring_password": "s3cret"}
NOW = 1_800_000_000


def test_the_address_is_the_given_one_or_the_stacks(tmp_path: Path) -> None:
    file = tmp_path / "login"
    file.write_text("reader:a:b\n")
    theirs = {LOGIN_FILE_VARIABLE: str(file)}
    assert PrometheusAddress.of(None, {}, {}) == PrometheusAddress()
    assert PrometheusAddress.of(None, {"prometheus_url": None}, {}) == PrometheusAddress()
    assert PrometheusAddress.of(None, OUTPUTS, {}) == PrometheusAddress("http://127.0.0.1:9090", ("kryonix", "s3cret"))
    assert PrometheusAddress.of("https://p.example/prom/", OUTPUTS, theirs) == PrometheusAddress(
        "https://p.example/prom", ("reader", "a:b")
    )
    assert PrometheusAddress.of("http://[::1]:9090", OUTPUTS, {}).login is None, "the stack's login is for its own"
    assert "s3cret" not in repr(PrometheusAddress.of(None, OUTPUTS, {}))


@pytest.mark.parametrize("url", ["prometheus:9090", "ftp://x", "http://", "http://x:99999", "http://[x"])
def test_an_invalid_address_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(InvalidChoice, match=r"not a valid URL\. Give one such as http://127\.0\.0\.1:9090"):
        PrometheusAddress.of(url, {}, {})


def test_a_login_in_the_address_is_refused_without_showing_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidChoice, match=LOGIN_FILE_VARIABLE) as caught:
        PrometheusAddress.of("http://me:hunter2@p.example", {}, {})
    assert "hunter2" not in str(caught.value)
    (tmp_path / "empty").write_text("hunter2")
    for name, said in (("absent", "No such file"), ("empty", "must contain one line")):
        with pytest.raises(InvalidChoice, match=said) as caught:
            PrometheusAddress.of(None, {}, {LOGIN_FILE_VARIABLE: str(tmp_path / name)})
        assert "hunter2" not in str(caught.value)


def test_a_tenants_id_can_end_no_selector() -> None:
    hostile = '"} or vector(1) # \\'
    assert quoted(hostile) == '"\\"} or vector(1) # \\\\"'
    for query in (figures_query(hostile, 15), limits_query(hostile)):
        assert query.count(f"cliente_id={quoted(hostile)}") == query.count("cliente_id")


class Server(Prometheus):
    """A server that answers each path of the API with its data, and keeps what was asked."""

    def __init__(self, **data: Any) -> None:
        super().__init__("http://p")
        self._data = data
        self.asked: list[tuple[str, dict[str, str]]] = []

    def _ask(self, path: str, **fields: str) -> Any:
        self.asked.append((path, fields))
        return self._data[path]


@pytest.mark.anyio
async def test_values_that_are_no_numbers_are_null() -> None:
    at = NOW - NOW % 360
    values = [[at - 720, "NaN"], [at - 360, "1234.5678"], [at, "1234567"]]
    server = Server(
        query_range={
            "result": [
                {"metric": {"figure": "waiting"}, "values": values},
                {"metric": {"figure": "wait_p95_s"}, "values": [[at, "NaN"]]},
            ]
        },
        query={"result": [{"metric": {"resource": "connections"}, "value": [at, "10"]}]},
    )
    charts = Charts(Monitoring(server), clock=lambda: NOW + 5.5)
    found = await charts.get("acme", Hours.DAY)
    assert found == await charts.get("acme", Hours.DAY)
    assert found.figures["waiting"][-4:] == [None, None, 1235, 1234567]
    assert set(found.figures) == {"waiting"}
    assert (found.start, found.step, found.limits) == (at - 86_400, 360, {"connections": 10})
    assert sorted(path for path, _ in server.asked) == ["query", "query_range"]
    assert dict(server.asked)["query_range"]["end"] == str(at)


def firing(name: str, since: str, **labels: str) -> dict[str, Any]:
    return {"labels": {"alertname": name, **labels}, "annotations": {}, "state": "firing", "activeAt": since}


@pytest.mark.anyio
async def test_alerts_are_sorted_by_severity_then_age() -> None:
    found = [
        firing("Later", "2026-11-28T10:00:01.123456789Z", severity="critical", cliente_id="acme"),
        firing("Odd", "2026-11-28T09:00:00Z", severity="page"),
        firing("Sooner", "2026-11-28T10:00:00.5Z", severity="critical"),
        {**firing("Pending", "2026-11-28T10:00:00Z"), "state": "pending"},
    ]
    alerts = Alerts(Monitoring(Server(alerts={"alerts": found})))
    assert [each.name for each in await alerts.get()] == ["Sooner", "Later", "Odd"]
    assert [(each.name, each.severity) for each in await alerts.of_tenant("acme")] == [("Later", "critical")]
    assert (await alerts.get())[2].severity == "warning"


def test_only_an_administrator_sees_addresses_in_alerts() -> None:
    alert = AlertAnswer.of(
        {
            **firing("Down", "2026-11-28T10:00:00Z", instance="10.1.2.3:15692", node="rabbit@a"),
            "annotations": {"summary": "10.1.2.3:15692 is down", "description": "see http://10.1.2.3/x"},
        }
    )
    assert "10.1.2.3" in AlertsAnswer.of([alert], "admin").alerts[0].summary
    shown = AlertsAnswer.of([alert], "write").model_dump_json()
    assert "10.1.2.3" not in shown
    assert '"node":"rabbit@a"' in shown


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"no", 401, "answered 401. Check its login"),
        (b"<html>", 200, "answered 200"),
        (b"[" * 200_000, 200, "answered 200"),
        (b'["what"]', 200, "answered 200"),
        (b'{"status": "error", "error": "too many samples"}', 422, "answered 422: too many samples"),
    ],
)
def test_an_answer_that_is_none_is_a_failure(body: bytes, status: int, said: str) -> None:
    with pytest.raises(PrometheusUnavailable) as caught:
        data_of(body, status, "http://p")
    assert str(caught.value) == f"Prometheus at http://p {said}"
    assert data_of(b'{"status": "success", "data": [1]}', 200, "http://p") == [1]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "data",
    [
        {},
        [],
        {"result": None, "alerts": [{}]},
        {"result": [{}], "alerts": [{**firing("A", "2026-11-28T10:00:00Z"), "annotations": None}]},
        {"result": [{"metric": {}, "values": [[1, "x"]]}], "alerts": [firing("A", "now")]},
        {"result": [{"metric": {}, "values": [[math.inf, "1"]]}], "alerts": "what"},
    ],
)
async def test_an_answer_of_another_service_is_a_failure(data: Any) -> None:
    monitoring = Monitoring(Server(query=data, query_range=data, alerts=data))
    for asked in (Charts(monitoring).get("acme", Hours.ONE), Alerts(monitoring).get()):
        with pytest.raises(MonitoringUnavailable):
            await asked


def test_an_answer_that_never_ends_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    class Drops(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):
                while True:
                    self.wfile.write(b" ")
                    time.sleep(0.02)

    monkeypatch.setattr("kryonix.monitoring.prometheus._LONGEST_S", 0.2)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Drops)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(PrometheusUnavailable, match="lasts more than"):
            Prometheus(f"http://127.0.0.1:{server.server_port}").alerts()
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.anyio
async def test_off_and_away_are_told_apart_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(server: Prometheus) -> None:
        raise PrometheusUnavailable(f"Prometheus at {server.url} does not answer")

    with pytest.raises(MonitoringOff) as off:
        await Monitoring(PrometheusAddress().connect()).ask(refuse)
    assert (problem_of(off.value).status, retry_after(off.value)) == (503, None)
    monitoring = Monitoring(Server())
    for _ in range(3):
        with pytest.raises(MonitoringUnavailable) as away:
            await monitoring.ask(refuse)
    assert (problem_of(away.value).status, retry_after(away.value)) == (503, 5)
    assert caplog.messages == ["Prometheus at http://p does not answer"]
    for error in (off.value, away.value):
        assert for_callers(problem_of(error).as_json())["detail"] == str(error)


@pytest.mark.anyio
async def test_concurrent_callers_share_a_fetch_also_a_failed_one() -> None:
    clock, calls, gate = Clock(), 0, asyncio.Event()

    async def fetch(key: str) -> str:
        nonlocal calls
        calls += 1
        await gate.wait()
        if key == "bad":
            raise MonitoringUnavailable
        return f"{key} {calls}"

    recent = Recent(5, fetch, clock)
    leaving = asyncio.ensure_future(recent.get("a"))
    staying = asyncio.ensure_future(recent.get("a"))
    await asyncio.sleep(0)
    leaving.cancel()
    clock.now = 100  # a fetch that lasts is not begun a second time
    late = asyncio.ensure_future(recent.get("a"))
    await asyncio.sleep(0)
    gate.set()
    assert (await staying, await late) == ("a 1", "a 1")
    clock.now = 104
    assert await recent.get("a") == "a 1"
    clock.now = 105
    assert await recent.get("a") == "a 2"
    for _ in range(3):
        with pytest.raises(MonitoringUnavailable):
            await recent.get("bad")
    assert calls == 3


@pytest.mark.anyio
async def test_kept_answers_are_bounded() -> None:
    fetched: list[int] = []

    async def fetch(key: int) -> int:
        fetched.append(key)
        return key

    recent = Recent(1e9, fetch)
    for key in (*range(256), 1, 256, 0):
        assert await recent.get(key) == key
    assert fetched == [*range(257), 0], "the oldest was dropped"
