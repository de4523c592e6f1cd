from __future__ import annotations

from typing import Any

import pytest

from kryonix.messaging.stats import read_stats
from kryonix.topology.catalog import default_catalog
from kryonix.topology.naming import Names

NAMES, CATALOG = Names("acme"), default_catalog()


def read(**figures: Any) -> Any:
    return read_stats(figures, NAMES, CATALOG)


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        ("", "action"),
        (".high", "lane"),
        (".dlq", "dead-letter"),
        (".retry.2", "retry"),
        (".high.retry.1", "retry"),
    ],
)
def test_a_queue_is_identified_by_its_name(suffix: str, kind: str) -> None:
    stats = read(name=f"cliente_acme.crm.leads.create{suffix}")
    assert (stats.module, stats.action, stats.kind) == ("crm", "leads.create", kind)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("cliente_acme.unrouted", "unrouted"),
        ("cliente_acme.crm.leads.create.retry.x", "other"),
        ("cliente_acme.crm.leads.create.urgent", "other"),
        ("somebody's own", "other"),
    ],
)
def test_a_queue_without_an_action_is_marked(name: str, kind: str) -> None:
    stats = read(name=name)
    assert (stats.module, stats.action, stats.kind) == (None, None, kind)


def test_figures_and_rates_come_from_the_broker() -> None:
    rates = {"publish_details": {"rate": 1.5}, "deliver_get_details": {"rate": 2.5}, "ack_details": {"rate": 3.5}}
    figures = {"messages": 7, "messages_ready": 4, "messages_unacknowledged": 3, "consumers": 2}
    stats = read(name="q", **figures, message_stats=rates)
    assert (stats.depth, stats.ready, stats.unacked, stats.consumers) == (7, 4, 3, 2)
    assert (stats.publish_rate, stats.deliver_rate, stats.ack_rate) == (1.5, 2.5, 3.5)


def test_a_new_queue_without_figures_is_empty() -> None:
    stats = read(name="q", message_stats={"publish_details": {}})
    assert (stats.depth, stats.consumers, stats.publish_rate) == (0, 0, 0.0)
