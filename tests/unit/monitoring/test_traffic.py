"""Traffic by tenant, from lists as RabbitMQ 4.3.6 answers them."""

from __future__ import annotations

from typing import Any

import pytest

from kryonix.monitoring.traffic import Traffic, tally

VHOSTS: list[dict[str, Any]] = [
    {"name": "/", "message_stats": {"publish": 9, "publish_details": {"rate": 9.0}}},
    {
        "name": "/cliente_acme",
        "messages": 12,
        "message_stats": {
            "publish_details": {"rate": 4.5},
            "deliver_get_details": {"rate": 2.0},
            "ack_details": {"rate": 1.0},
        },
    },
    {"name": "/cliente_beta", "messages": 0},
    {"name": "/kryonix_events"},
]


def queue(
    name: str, ready: int = 0, unacked: int = 0, consumers: int = 0, vhost: str = "/cliente_acme"
) -> dict[str, Any]:
    counts = {"messages_ready": ready, "messages_unacknowledged": unacked, "consumers": consumers}
    return {"vhost": vhost, "name": name, **counts}


QUEUES = [
    queue("cliente_acme.crm.leads.create", 6, 2, 3),
    queue("cliente_acme.crm.leads.create.high", 1, 0, 1),
    queue("cliente_acme.crm.leads.create.retry.1", 20),
    queue("cliente_acme.crm.leads.create.dlq", 40, 1, 5),
    queue("cliente_acme.unrouted", 2),
    {"vhost": "/cliente_acme", "name": "cliente_acme.crm.new"},
    queue("somebody's", 99, vhost="/"),
    queue("cliente_beta.crm.leads.create", vhost="/cliente_beta"),
]
CONNECTIONS: list[dict[str, Any]] = [
    {"vhost": "/cliente_acme", "channels": 2},
    {"vhost": "/cliente_acme"},
    {"channels": 1},
    {"vhost": "/"},
]


def test_a_tenants_queues_and_connections_are_summed() -> None:
    found = tally(VHOSTS, QUEUES, CONNECTIONS)
    assert found.keys() == {"acme", "beta"}
    assert found["acme"] == Traffic(
        ready=7,
        depth=29,
        deepest=20,
        dead=43,
        queues=6,
        consumers=4,
        connections=2,
        channels=2,
        publish_rate=4.5,
        deliver_rate=2.0,
    )
    assert found["beta"] == Traffic(queues=1)


@pytest.mark.parametrize(
    ("ready", "rate", "wait"), [(0, 0.0, 0.0), (0, 5.0, 0.0), (10, 4.0, 2.5), (10, 0.0, None)], ids=str
)
def test_the_wait_is_estimated_from_the_delivery_rate(ready: int, rate: float, wait: float | None) -> None:
    """Dead letters and delayed retries wait for nobody, and count for nothing here."""
    assert Traffic(ready=ready, deliver_rate=rate, dead=1000, depth=5000).estimated_wait_s == wait
