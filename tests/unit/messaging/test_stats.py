from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kryonix.messaging import StatsUnavailable
from kryonix.messaging.configuration import parse_uri
from kryonix.messaging.stats import queue_figures, read_stats
from kryonix.topology.catalog import default_catalog
from kryonix.topology.naming import Names
from tests.support.management_api import by_path, served

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


@pytest.mark.anyio
async def test_figures_are_read_past_the_environments_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "socks5://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with served(by_path({"/api/queues/%2Fcliente_acme": [{"name": "q"}]})) as api:
        address = parse_uri("amqp://kryonix_acme:pw@127.0.0.1/%2Fcliente_acme", api.url)
        assert await queue_figures(address, 5) == [{"name": "q"}]


@pytest.mark.anyio
async def test_an_error_without_words_is_named_alone() -> None:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(hold, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(StatsUnavailable, match=r"gives no figures \(\w+\)\."):
            await queue_figures(parse_uri("amqp://kryonix_acme:x@127.0.0.1:1/%2Fcliente_acme", url), 0.2)
