"""The management API for tenants: figures for the stats user, nothing for the other."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.support.amqp import CONNECTION_REFUSED, Application

REFUSED = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN, httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED)
OWN, OTHER, QUEUE = "/cliente_beta", "/cliente_acme", "cliente_beta.crm.leads.create"


@pytest.mark.parametrize("kind", ["vhosts", "queues", "exchanges", "bindings", "policies", "operator-policies"])
def test_lists_show_the_tenants_own_vhost_only(beta: Application, kind: str) -> None:
    found = beta.stats.get(kind)
    assert {entry.get("vhost", entry["name"] if kind == "vhosts" else None) for entry in found} == {OWN}


@pytest.mark.parametrize("kind", ["connections", "channels", "consumers", "vhost-limits"])
def test_lists_show_nothing_of_other_vhosts(beta: Application, kind: str) -> None:
    assert {entry["vhost"] for entry in beta.stats.get(kind)} <= {OWN}


def test_the_overview_counts_the_tenants_own_objects_only(beta: Application) -> None:
    overview = beta.stats.get("overview")
    assert overview["object_totals"]["queues"] == len(beta.queues())
    assert "node" not in overview or "listeners" not in overview


def test_a_tenant_sees_the_figures_of_its_queues(beta: Application) -> None:
    assert beta.stats.get("queues", OWN, QUEUE)["name"] == QUEUE


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
    assert beta.stats.call("GET", *parts).status_code in REFUSED


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
    assert beta.stats.call(method, *parts, json=body).status_code in REFUSED
    assert beta.admin.get("definitions", OWN) == before


MESSAGE = {"properties": {}, "routing_key": "crm.leads.create.low", "payload": "x", "payload_encoding": "string"}
TO_QUEUE = {**MESSAGE, "routing_key": QUEUE}
GET = {"count": 1000, "ackmode": "ack_requeue_true", "encoding": "auto"}
FIGURES = (
    ("overview",),
    ("whoami",),
    ("vhosts",),
    ("queues",),
    ("queues", OWN),
    ("queues", OWN, QUEUE),
    ("bindings", OWN),
)
MESSAGES: tuple[tuple[str, tuple[str, ...], Any], ...] = (
    ("POST", ("queues", OWN, QUEUE, "get"), GET),
    ("POST", ("exchanges", OWN, "cliente_beta", "publish"), MESSAGE),
    ("POST", ("exchanges", OWN, "amq.default", "publish"), TO_QUEUE),
    ("POST", ("bindings", OWN, "e", "cliente_beta", "q", QUEUE), {"routing_key": "#"}),
    ("DELETE", ("queues", OWN, QUEUE, "contents"), None),
    ("GET", ("aliveness-test", OWN), None),
)


def test_the_stats_user_can_read_figures_only(beta: Application) -> None:
    assert [beta.stats.call("GET", *parts).status_code for parts in FIGURES] == [200] * len(FIGURES)
    answers = [beta.stats.call(method, *parts, json=body) for method, parts, body in MESSAGES]
    assert [answer.status_code for answer in answers] == [httpx.codes.UNAUTHORIZED] * len(MESSAGES)
    assert asyncio.run(beta.holding()) == {}
    assert QUEUE in beta.queues()


def test_the_stats_user_cannot_connect_by_amqp(beta: Application) -> None:
    for vhost in (OWN, OTHER, "/"):
        with pytest.raises(CONNECTION_REFUSED, match=r"got <Connection\.Close"):
            asyncio.run(beta.stats.at(vhost).connect())


def test_the_messaging_user_is_refused_by_http(beta: Application) -> None:
    calls = [("GET", parts, None) for parts in FIGURES] + list(MESSAGES)
    answers = [beta.account.call(method, *parts, json=body) for method, parts, body in calls]
    assert [answer.status_code for answer in answers] == [httpx.codes.UNAUTHORIZED] * len(calls)
    assert asyncio.run(beta.holding()) == {}


@pytest.mark.parametrize("user", ["account", "stats"])
def test_no_user_of_a_larger_plan_reads_messages_by_http(acme: Application, user: str) -> None:
    queue = acme.name("crm.leads.create")
    answer = getattr(acme, user).call("POST", "queues", acme.vhost, queue, "get", json=GET)
    assert answer.status_code == httpx.codes.UNAUTHORIZED
