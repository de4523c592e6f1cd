"""Figures of several sources, of which some fail or hang."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from kryonix.monitoring.exporter import Exporter
from kryonix.monitoring.figures import connection_figures, tenant_figures
from kryonix.monitoring.plans import plan_figures
from kryonix.rabbitmq.broker import Broker
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.registry.desired_states import DesiredState
from kryonix.topology.catalog import default_catalog
from tests.support.waiting import eventually


def text_of(exporter: Exporter) -> str:
    registry = CollectorRegistry()
    registry.register(exporter)
    return generate_latest(registry).decode()


def open_connections(tenant: str, number: int) -> list[Metric]:
    family = GaugeMetricFamily("kryonix_tenant_connections", "Open.", labels=["cliente_id"])
    family.add_metric([tenant], number)
    return [family]


def away() -> list[Metric]:
    raise BrokerUnavailable("the broker at http://127.0.0.1:1 does not answer")


def test_figures_of_two_sources_are_one_family() -> None:
    sources = {"cell a": lambda: open_connections("acme", 1), "cell b": lambda: open_connections("beta", 2)}
    exporter = Exporter(sources, 15)
    exporter.read()
    text = text_of(exporter)
    assert text.count("# TYPE kryonix_tenant_connections gauge") == 1
    assert 'kryonix_tenant_connections{cliente_id="acme"} 1.0\n' in text
    assert 'kryonix_tenant_connections{cliente_id="beta"} 2.0\n' in text


def test_unreadable_figures_are_absent_and_counted() -> None:
    answers: Iterator[Any] = iter([lambda: open_connections("acme", 1), away, away])
    exporter = Exporter({"cell main": lambda: next(answers)()}, 15)
    exporter.read()
    assert 'kryonix_exporter_source_readable{source="cell main"} 1.0' in text_of(exporter)
    exporter.read()
    exporter.read()
    text = text_of(exporter)
    assert "cliente_id" not in text
    assert 'kryonix_exporter_source_readable{source="cell main"} 0.0' in text
    assert 'kryonix_exporter_source_failures_total{source="cell main"} 2.0' in text


def test_one_source_that_fails_unexpectedly_does_not_stop_another(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> list[Metric]:
        raise ZeroDivisionError("a bug")

    exporter = Exporter({"registry": broken, "cell main": lambda: open_connections("acme", 1)}, 15)
    exporter.read()
    text = text_of(exporter)
    assert 'kryonix_exporter_source_failures_total{source="registry"} 1.0' in text
    assert 'kryonix_tenant_connections{cliente_id="acme"} 1.0' in text
    assert "registry: ZeroDivisionError: a bug" in caplog.text


def test_figures_of_a_source_that_hangs_become_absent() -> None:
    ending, released, calls = Event(), Event(), iter([0])

    def hanging() -> list[Metric]:
        if next(calls, None) is None:
            released.wait()
        return open_connections("acme", 1)

    exporter = Exporter({"cell main": hanging}, 0.05)
    exporter.start(ending)
    try:
        eventually("figures are there", lambda: "cliente_id" in text_of(exporter))
        eventually("figures are gone", lambda: "cliente_id" not in text_of(exporter))
        assert 'kryonix_exporter_source_readable{source="cell main"} 0.0' in text_of(exporter)
    finally:
        ending.set()
        released.set()


def test_limits_and_thresholds_of_a_plan_are_series_of_the_tenant() -> None:
    catalog = default_catalog()
    states = [
        DesiredState(cliente_id="acme", modules=("crm",), plan="basic"),
        DesiredState(cliente_id="beta", modules=("crm",), plan="sold no more", status="suspended"),
    ]
    found = {
        (sample.name, sample.labels["cliente_id"], sample.labels.get("resource", "")): sample.value
        for metric in [*tenant_figures(states), *plan_figures(states, catalog)]
        for sample in metric.samples
    }
    plan = catalog.plans["basic"]
    assert found["kryonix_plan_limit", "acme", "connections"] == plan.limits.max_connections
    assert found["kryonix_plan_limit", "acme", "queue_depth"] == plan.scaling.max_queue_depth
    assert found["kryonix_plan_limit", "acme", "scale_up_threshold"] == plan.scaling.scale_up_threshold
    assert [key for key in found if key[1] == "beta"] == [
        ("kryonix_tenant_info", "beta", ""),
        ("kryonix_tenant_converged", "beta", ""),
    ]


class _Listing(Broker):
    """A broker that answers lists."""

    def __init__(self, *, complete: bool, **lists: list[dict[str, Any]]) -> None:
        super().__init__("http://127.0.0.1:1", "reader", "secret")
        self._lists, self._complete = lists, complete

    def listed(self, *path: str, **params: str) -> tuple[list[dict[str, Any]], bool]:
        return self._lists[path[0]], self._complete


def test_connections_and_channels_are_counted_per_tenant() -> None:
    vhosts = [{"name": "/"}, {"name": "/cliente_acme"}, {"name": "/cliente_beta"}]
    opened: list[dict[str, Any]] = [
        {"vhost": "/cliente_acme", "channels": 3},
        {"vhost": "/cliente_acme"},
        {"vhost": "/"},
        {},
    ]
    broker = _Listing(complete=True, vhosts=vhosts, connections=opened)
    found = {
        (metric.name, sample.labels["cliente_id"]): sample.value
        for metric in connection_figures(broker)
        for sample in metric.samples
    }
    assert found == {
        ("kryonix_tenant_connections", "acme"): 2,
        ("kryonix_tenant_connections", "beta"): 0,
        ("kryonix_tenant_channels", "acme"): 3,
        ("kryonix_tenant_channels", "beta"): 0,
    }


def test_a_list_that_was_cut_gives_no_figures() -> None:
    broker = _Listing(complete=False, vhosts=[{"name": "/cliente_acme"}], connections=[])
    with pytest.raises(BrokerUnavailable, match="more vhosts or connections than fit"):
        connection_figures(broker)
