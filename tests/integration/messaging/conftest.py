"""Three tenants with short retry delays, on the real broker and in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import cache
from typing import Any

import pytest
import yaml

from kryonix.topology.catalog import Catalog, parse_catalog
from kryonix.topology.naming import Names
from tests.support.amqp import Account, administrator
from tests.support.broker_under_test import World, memory_world, rabbitmq_world
from tests.support.project import ROOT, Project, tenant

CATALOG = ROOT / "kryonix" / "topology" / "catalog.yaml"

TENANTS: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "sdk": ({"strategy": "native"}, ["crm", "whatsapp", "agendamento", "financeiro", "portal"], "enterprise"),
    "sdk-queues": ({"strategy": "queues"}, ["portal", "whitelabel"], "tiny"),
    "sdk-ai": ({"strategy": "native"}, ["analytics", "whitelabel"], "basic"),
}
"""By id: what of the retry settings differs, the modules, the plan."""


def changed_catalog(**retry: Any) -> str:
    """The product's catalog with soon retries, a lane, an expiry for mobile, and a plan whose queues are soon full."""
    document = yaml.safe_load(CATALOG.read_text())
    document["retry"] |= {"first_delay": "1s", "max_delay": "1s", "limit": 2, **retry}
    document["modules"]["crm"]["priority_lanes"] = {"leads.update": ["high"]}
    document["modules"]["agendamento"]["mobile_expiry"] = "1s"
    plan = document["plans"]["enterprise"]
    document["plans"]["tiny"] = {**plan, "scaling": {**plan["scaling"], "max_queue_depth": 10}}
    return yaml.safe_dump(document)


@cache
def catalog_of(id: str) -> Catalog:
    return parse_catalog(changed_catalog(**TENANTS[id][0]).encode(), "catalog.yaml")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def tenants(platform: Project) -> dict[str, tuple[str, str]]:
    """The AMQP URI and the management URL of each tenant. They go with the platform."""
    found = {}
    management_url = platform.outputs()["management_url"]
    for id, (retry, modules, plan) in TENANTS.items():
        platform.write(f"catalog-{id}.yaml", changed_catalog(**retry))
        stack = platform.beside(
            f"tenant-{id}", catalogFile=f"catalog-{id}.yaml", tenant=tenant(id, *modules, plan=plan)
        )
        stack.must("up")
        outputs = stack.outputs()
        found[id] = (outputs["tenants"][id]["amqp_uri"], management_url)
    return found


@pytest.fixture(scope="module")
def emptied(tenants: dict[str, tuple[str, str]], operator: Account) -> dict[str, tuple[str, str]]:
    """The same tenants, with their queues purged."""
    for id in tenants:
        vhost = Names(id).vhost
        for queue in operator.get("queues", vhost):
            operator.call("DELETE", "queues", vhost, queue["name"], "contents").raise_for_status()
    return tenants


@pytest.fixture(scope="session")
def operator(platform: Project) -> Account:
    """The broker's administrator."""
    return administrator(platform.outputs())


async def _world(id: str, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if request.param == "memory":
        world = await memory_world(id, catalog_of(id), *TENANTS[id][1:])
    else:
        amqp_uri, management_url = request.getfixturevalue("emptied")[id]
        operator = request.getfixturevalue("operator")
        world = await rabbitmq_world(amqp_uri, management_url, catalog_of(id), operator)
    yield world
    await world.transport.close()


BOTH = ["memory", "rabbitmq"]


@pytest.fixture(params=BOTH)
async def world(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[World]:
    """Five modules, retries by the broker, a priority lane `high` for crm's leads.update."""
    async for made in _world("sdk", request):
        yield made


@pytest.fixture(params=BOTH)
async def queues_world(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[World]:
    """Two modules without AI routing, retries by queues, at most 10 messages in a queue."""
    async for made in _world("sdk-queues", request):
        yield made


@pytest.fixture(params=BOTH)
async def ai_world(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[World]:
    """One module with AI routing and one without."""
    async for made in _world("sdk-ai", request):
        yield made
