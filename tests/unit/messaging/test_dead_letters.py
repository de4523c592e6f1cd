from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pamqp.frame
import pytest
from pamqp.header import ContentHeader

from kryonix.messaging.amqp.properties import ExactProperties, copied
from kryonix.messaging.redrive.dead_letters import Origin, marked, origin
from kryonix.topology.catalog import default_catalog
from kryonix.topology.naming import Names

NAMES, CATALOG = Names("acme"), default_catalog()
QUEUE = "cliente_acme.crm.leads.create"


def death(queue: str, exchange: str, *keys: str, reason: str = "rejected") -> dict[str, Any]:
    return {"queue": queue, "reason": reason, "exchange": exchange, "routing-keys": list(keys), "count": 1}


def found(
    headers: dict[str, Any], priority: int = 5, module: str = "crm", action: str = "leads.create"
) -> Origin | None:
    return origin(headers, priority, NAMES, CATALOG, module, action)


@pytest.mark.parametrize(
    ("exchange", "key"),
    [
        ("cliente_acme", "crm.leads.create.low"),
        ("cliente_acme", "crm.leads.create.high"),
        ("cliente_acme.mobile_priority", "mobile.crm.leads.create"),
        ("cliente_acme.business_critical", "critical.crm.leads.create"),
    ],
)
def test_it_returns_to_the_exchange_and_key_in_the_brokers_header(exchange: str, key: str) -> None:
    assert found({"x-death": [death(QUEUE, exchange, key)]}) == Origin(exchange, key)


def test_the_sdks_origin_header_precedes_the_brokers() -> None:
    headers = {
        "kryonix-exchange": "cliente_acme",
        "kryonix-routing-key": "crm.leads.create.high",
        "x-death": [death(QUEUE, "cliente_acme.crm.dlx", "crm.leads.create.dlq")],
    }
    assert found(headers) == Origin("cliente_acme", "crm.leads.create.high")


def test_of_several_deaths_the_first_counts() -> None:
    deaths = [
        death(f"{QUEUE}.retry.1", "cliente_acme.crm.dlx", "crm.leads.create.retry.1", reason="expired"),
        death(QUEUE, "cliente_acme", "crm.leads.create.low"),
        death("elsewhere", "other", "key"),
    ]
    named = {"x-death": deaths, "x-first-death-queue": QUEUE, "x-first-death-reason": "rejected"}
    assert found(named) == Origin("cliente_acme", "crm.leads.create.low")
    assert found({"x-death": deaths[:2]}) == Origin("cliente_acme", "crm.leads.create.low")


def test_a_cc_copy_returns_by_its_own_routing_key() -> None:
    headers = {"x-death": [death(QUEUE, "cliente_acme", "crm.contacts.sync.low", "crm.leads.create.high")]}
    assert found(headers) == Origin("cliente_acme", "crm.leads.create.high")
    assert found(headers, action="contacts.sync") == Origin("cliente_acme", "crm.contacts.sync.low")
    assert found(headers, action="tasks.assign") is None


def test_only_headers_with_broker_effects_are_dropped() -> None:
    theirs = {"CC": ["crm.contacts.sync.low"], "BCC": ["x"], "cc": "theirs", "x-delay": 5, "x-mine": 1}
    broker = {"x-acquired-count": 1, "x-delivery-count": 1, "x-delayed-until": 1, "x-opt-rabbitmq-delivery-time": 1}
    kept = {name for name in marked({**theirs, **broker}, "run") if not name.startswith("kryonix-")}
    assert kept == {"cc", "x-delay", "x-mine"}


def test_the_redrive_mark_replaces_any_header_of_its_name() -> None:
    headers = {"kryonix-redrives": 2**63 - 1, "kryonix-reason": ["x" * 10_000]}
    assert ExactProperties(headers=marked(headers, "run")).frame_size < 2_000


def test_a_broadcast_goes_back_to_its_own_action_only() -> None:
    headers = {"x-death": [death(QUEUE, "cliente_acme.automation", "")]}
    assert found(headers, priority=9) == Origin("cliente_acme", "crm.leads.create.high")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-death": []},
        {"x-death": "text"},
        {"x-death": [{"queue": QUEUE}]},
        {"x-death": [death(QUEUE, "cliente_acme", "crm.leads.update.low")]},
        {"x-death": [death(QUEUE, "cliente_acme", "crm.leads.create.urgent")]},
        {"x-death": [death(QUEUE, "cliente_other", "crm.leads.create.low")]},
        {"x-death": [death(QUEUE, "cliente_acme.crm.dlx", "crm.leads.create.dlq")]},
        {"kryonix-exchange": "cliente_acme"},
    ],
)
def test_an_absent_or_foreign_origin_is_none(headers: dict[str, Any]) -> None:
    assert found(headers) is None


def test_an_unbound_exchange_is_not_an_origin() -> None:
    mobile = {"x-death": [death("q", "cliente_acme.mobile_priority", "mobile.financeiro.faturas.create")]}
    critical = {"x-death": [death("q", "cliente_acme.business_critical", "critical.whatsapp.messages.send")]}
    assert found(mobile, module="financeiro", action="faturas.create") is None
    assert found(critical, module="whatsapp", action="messages.send") is None


def test_it_returns_marked_and_without_failure_headers() -> None:
    headers = {
        "cliente-id": "acme",
        "traceparent": "00-1-2-01",
        "x-death": [death(QUEUE, "cliente_acme", "crm.leads.create.low")],
        "x-first-death-reason": "rejected",
        "x-last-death-queue": QUEUE,
        "x-delivery-count": 3,
        "kryonix-failures": 3,
        "kryonix-exchange": "cliente_acme",
        "kryonix-routing-key": "crm.leads.create.low",
        "kryonix-reason": "no such lead",
        "kryonix-died-at": datetime.now(UTC),
        "kryonix-attempts": 3,
        "kryonix-redrives": 1,
    }
    assert marked(headers, "run-2") == {
        "cliente-id": "acme",
        "traceparent": "00-1-2-01",
        "kryonix-redrives": 2,
        "kryonix-redrive-run": "run-2",
        "kryonix-redrive-reason": "no such lead",
    }
    assert marked({}, "run-1")["kryonix-redrive-run"] == "run-1"


def test_a_dead_letter_returns_with_its_senders_properties() -> None:
    theirs = {"rate": 1e308, "tenth": 0.1, "n" * 200: True}
    dead = ExactProperties(headers=dict(theirs), message_id="m", correlation_id="c", message_type="order")
    properties = copied(dead, delivery_mode=2, headers=marked(theirs, "run"))
    frame = pamqp.frame.marshal(ContentHeader(body_size=2, properties=properties), 1)
    _, _, back = pamqp.frame.unmarshal(frame)
    assert isinstance(back, ContentHeader)
    own = back.properties
    assert (own.message_id, own.correlation_id, own.message_type) == ("m", "c", "order")
    assert own.headers is not None
    assert theirs.items() <= own.headers.items()
