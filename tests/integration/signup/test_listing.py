"""The list of tenants, their history, and the key, over HTTP on a real registry."""

from __future__ import annotations

from itertools import count
from typing import Any

import httpx
import pytest

from kryonix.signup.keys import SCOPES
from tests.integration.signup.conftest import Registry, caller

_MINUTES = count()


def desire(registry: Registry, id: str, status: str = "active", plan: str = "basic") -> None:
    remove_after = "now()" if status in ("offboarding", "removing") else "NULL"
    registry.query(
        "INSERT INTO tenants.desired_states "
        "(cliente_id, modules, plan, status, cell, credentials_generation, remove_after, updated_at) VALUES "
        f"(%s, '[\"crm\"]', %s, %s, 'main', 1, {remove_after}, now() + make_interval(mins => %s))",
        id, plan, "removed" if status == "removing" else status, next(_MINUTES),
    )  # fmt: skip


def declare(registry: Registry, id: str, status: str = "ativo") -> None:
    """Insert the row that a stack's program writes, for a tenant of tenants.yaml or of a stack of its own."""
    registry.query(
        "INSERT INTO tenants.rabbitmq_configurations (cliente_id, vhost, modulos_habilitados, plano, status) "
        "VALUES (%s, %s, '[\"portal\"]', 'pro', %s)",
        id, f"/cliente_{id}", status,
    )  # fmt: skip


def pages(http: httpx.Client, **query: Any) -> list[list[str]]:
    found, after = [], ""
    while True:
        page = http.get("/v1/tenants", params={**query, "after": after}).raise_for_status().json()
        found.append([tenant["id"] for tenant in page["tenants"]])
        assert page["total"] >= len(found[-1])
        if page["next"] is None:
            return found
        after = page["next"]


def test_every_tenant_is_listed_with_what_manages_it(registry: Registry, base: str) -> None:
    for number, status in enumerate(("removed", "active", "suspended", "offboarding", "removing")):
        desire(registry, f"own-{number}", status)
        declare(registry, f"own-{number}", "removido" if status == "removed" else "ativo")
    declare(registry, "listed")
    declare(registry, "asleep", "suspenso")
    declare(registry, "gone", "removido")
    desire(registry, "moved", "removed")
    declare(registry, "moved")  # removed here, then declared in a file
    with caller(base, registry.key("read")) as http:
        tenants = http.get("/v1/tenants").json()["tenants"]
        assert {each["id"]: (each["status"], each["managed_by"], each["cell"]) for each in tenants} == {
            "asleep": ("suspended", "config file", None),
            "listed": ("active", "config file", None),
            "moved": ("active", "config file", None),
            "own-1": ("active", "own stack", "main"),
            "own-2": ("suspended", "own stack", "main"),
            "own-3": ("offboarding", "own stack", "main"),
            "own-4": ("removing", "own stack", "main"),
        }
        assert [each["id"] for each in tenants] == sorted(each["id"] for each in tenants)
        assert pages(http, status="removed") == [["own-0"]]
        assert pages(http, status=["removed", "suspended"]) == [["asleep", "own-0", "own-2"]]
        assert http.get("/v1/tenants/listed").json()["queues"] == {"used": 11, "allowed": 200}
        assert http.get("/v1/tenants/gone").json()["type"].endswith("unknown-tenant")
        assert http.get("/v1/tenants", params={"status": "asleep"}).status_code == 422


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("id", "abcde"),
        ("-id", "edcba"),
        ("plan", "bdace"),
        ("-plan", "ecadb"),
        ("changed", "cabed"),
        ("-changed", "debac"),
    ],
)
def test_pages_follow_the_order_asked_for(sort: str, order: str, registry: Registry, base: str) -> None:
    for letter in "cabed":
        desire(registry, f"tenant-{letter}", plan="basic" if letter in "bd" else "pro")
    desire(registry, "other")
    with caller(base, registry.key("read")) as http:
        found = pages(http, sort=sort, search="tenant-", limit=2)
        page = http.get("/v1/tenants", params={"search": "tenant-", "limit": 1}).json()
        past = http.get("/v1/tenants", params={"search": "tenant-", "after": "z"}).json()
    assert found == [[f"tenant-{letter}" for letter in order[at : at + 2]] for at in (0, 2, 4)]
    assert page["total"] == 5
    assert (past["tenants"], past["total"]) == ([], 5)


def test_a_tenant_of_a_config_file_is_not_changed_here(registry: Registry, base: str) -> None:
    declare(registry, "listed")
    with caller(base, registry.key("admin")) as http:
        asked = [http.post(f"/v1/tenants/listed/{verb}") for verb in ("suspend", "resume", "rotate", "converge")] + [
            http.delete("/v1/tenants/listed"),
            http.patch("/v1/tenants/listed", json={"plan": "basic"}),
        ]
        for response in asked:
            assert (response.status_code, response.json()["type"]) == (409, "urn:kryonix:problem:declared-in-file")
            assert "run `kryonix up`; or move" in response.json()["detail"]
        assert http.get("/v1/tenants/listed/operations").json() == {"operations": []}
        assert http.post("/v1/tenants/nobody/converge").status_code == 404


def test_the_history_says_what_was_asked_and_by_whom(registry: Registry, base: str) -> None:
    with caller(base, registry.key("write")) as http:
        http.post("/v1/tenants", json={"id": "acme", "modules": ["crm"], "plan": "basic"}).raise_for_status()
        (made,) = http.get("/v1/tenants/acme/operations").raise_for_status().json()["operations"]
        assert (made["kind"], made["requested_by"], made["status"]) == ("create", "a test's", "queued")
        assert made["request"] == {"id": "acme", "modules": ["crm"], "plan": "basic", "cell": "main"}
        assert http.get("/v1/tenants/nobody/operations").status_code == 404
        desire(registry, "beta", "removed")
        refused = http.post("/v1/tenants/beta/converge").json()
        assert "is removed and can't be converged. Allowed states: active, suspended" in refused["detail"]


def test_a_key_says_its_name_and_scope(registry: Registry, base: str) -> None:
    for scope in SCOPES:
        with caller(base, registry.key(scope)) as http:
            found = http.get("/v1/key").raise_for_status().json()
            assert (found["name"], found["scope"], found["expires_at"]) == ("a test's", scope, None)


def test_a_plan_needs_no_id(registry: Registry, base: str) -> None:
    big = {"modules": ["crm", "whatsapp", "agendamento", "financeiro", "portal"], "plan": "basic"}
    with caller(base, registry.key("read")) as http:
        assert http.post("/v1/plan", json={"modules": ["crm"], "plan": "basic"}).json()["queues"]["used"] == 15
        unnamed, named = (http.post("/v1/plan", json=body).json()["detail"] for body in (big, {**big, "id": "acme"}))
    assert unnamed.startswith("this does not fit the plan 'basic': ")
    assert named.startswith("tenant 'acme' does not fit the plan 'basic': ")
