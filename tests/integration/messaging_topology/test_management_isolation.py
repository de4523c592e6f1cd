"""What a tenant sees and can do by the management API, with its own credentials."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.amqp import Application

REFUSED = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN, httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED)
OWN, OTHER, QUEUE = "/cliente_beta", "/cliente_acme", "cliente_beta.crm.leads.create"


@pytest.mark.parametrize("kind", ["vhosts", "queues", "exchanges", "bindings", "policies", "operator-policies"])
def test_lists_show_the_tenants_own_vhost_only(beta: Application, kind: str) -> None:
    found = beta.account.get(kind)
    assert {entry.get("vhost", entry["name"] if kind == "vhosts" else None) for entry in found} == {OWN}


@pytest.mark.parametrize("kind", ["connections", "channels", "consumers", "vhost-limits"])
def test_lists_show_nothing_of_other_vhosts(beta: Application, kind: str) -> None:
    assert {entry["vhost"] for entry in beta.account.get(kind)} <= {OWN}


def test_the_overview_counts_the_tenants_own_objects_only(beta: Application) -> None:
    overview = beta.account.get("overview")
    assert overview["object_totals"]["queues"] == len(beta.queues())
    assert "node" not in overview or "listeners" not in overview


def test_a_tenant_sees_the_figures_of_its_queues(beta: Application) -> None:
    assert beta.account.get("queues", OWN, QUEUE)["name"] == QUEUE


@pytest.mark.parametrize(
    "parts",
    [
        ("users",),
        ("users", "kryonix_acme"),
        ("users", "kryonix_beta"),
        ("definitions",),
        ("definitions", OWN),
        ("definitions", OTHER),
        ("permissions",),
        ("topic-permissions",),
        ("user-limits",),
        ("parameters",),
        ("global-parameters",),
        ("nodes",),
        ("shovels",),
        ("vhosts", OTHER),
        ("queues", OTHER),
        ("queues", OTHER, "cliente_acme.crm.leads.create"),
        ("exchanges", OTHER),
        ("bindings", OTHER),
        ("policies", OTHER),
        ("vhost-limits", OTHER),
        ("connections", "username", "kryonix_acme"),
        ("queues", "/"),
        ("queues", "/monitoring"),
    ],
)
def test_a_tenant_is_refused_what_is_not_its_own(beta: Application, parts: tuple[str, ...]) -> None:
    assert beta.account.call("GET", *parts).status_code in REFUSED


ALL = {"configure": ".*", "write": ".*", "read": ".*"}


@pytest.mark.parametrize(
    ("method", "parts", "body"),
    [
        ("PUT", ("policies", OWN, "mine"), {"pattern": ".*", "definition": {"max-length": 9}}),
        ("DELETE", ("policies", OWN, "modulo-crm"), None),
        ("PUT", ("operator-policies", OWN, "mine"), {"pattern": ".*", "definition": {"max-length": 9}}),
        ("DELETE", ("operator-policies", OWN, "autoscaling-beta"), None),
        ("PUT", ("permissions", OWN, "kryonix_beta"), ALL),
        ("PUT", ("permissions", OTHER, "kryonix_beta"), ALL),
        ("PUT", ("users", "kryonix_beta"), {"password": "x", "tags": "administrator"}),
        ("PUT", ("users", "mine"), {"password": "x", "tags": "administrator"}),
        ("DELETE", ("users", "kryonix_acme"), None),
        ("PUT", ("user-limits", "kryonix_beta", "max-connections"), {"value": 1000}),
        ("PUT", ("vhost-limits", OWN, "max-queues"), {"value": 1000}),
        ("DELETE", ("vhosts", OWN), None),
        ("DELETE", ("vhosts", OWN, "deletion", "protection"), None),
        ("PUT", ("vhosts", "/mine"), {}),
        ("PUT", ("queues", OWN, "cliente_beta.mine"), {"durable": True}),
        ("DELETE", ("queues", OWN, QUEUE), None),
        ("PUT", ("exchanges", OWN, "cliente_beta.mine"), {"type": "topic"}),
        ("DELETE", ("exchanges", OWN, "cliente_beta"), None),
        ("POST", ("bindings", OWN, "e", "cliente_beta", "q", QUEUE), {"routing_key": "#"}),
        ("DELETE", ("bindings", OWN, "e", "cliente_beta", "q", QUEUE, "crm.leads.create.*"), None),
        ("PUT", ("parameters", "shovel", OWN, "mine"), {"value": {"src-protocol": "amqp091"}}),
        ("PUT", ("parameters", "federation-upstream", OWN, "mine"), {"value": {"uri": "amqp://"}}),
    ],
)
def test_a_tenant_changes_nothing(beta: Application, method: str, parts: tuple[str, ...], body: Any) -> None:
    before = beta.admin.get("definitions", OWN)
    assert beta.account.call(method, *parts, json=body).status_code in REFUSED
    assert beta.admin.get("definitions", OWN) == before


def test_a_tenant_publishes_nothing_past_its_exchanges(beta: Application) -> None:
    message = {"properties": {}, "routing_key": QUEUE, "payload": "x", "payload_encoding": "string"}
    answer = beta.account.call("POST", "exchanges", OWN, "amq.default", "publish", json=message)
    assert (answer.status_code, "access" in answer.text.lower()) == (400, True), answer.text
    assert asyncio.run(beta.holding()) == {}
