"""Changes of plan, retention, priorities or retry keep queues and messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.topology.conftest import write_catalog
from tests.support.amqp import Application, publish
from tests.support.project import Project, tenant

ID = "mudanca"
ENTRY = tenant(ID, "crm", plan="basic")
HELD = {"crm.leads.create": 5, "crm.leads.create.dlq": 2, "unrouted": 1}
LOSING = ("delete", "replace", "create-replacement", "delete-replaced")

Catalog = dict[str, Any]


@pytest.fixture(scope="module")
def stack(platform: Project) -> Project:
    write_catalog(platform, "changing.yaml", lambda catalog: None)
    stack = platform.beside(f"tenant-{ID}", tenant=ENTRY, catalogFile="changing.yaml")
    stack.must("up")
    return stack


@pytest.fixture(scope="module")
def application(stack: Project) -> Application:
    """The tenant, with messages in three queues."""
    application = Application.of(stack.administered(), ID)

    async def fill() -> None:
        async with application.account.channel() as channel:
            for _ in range(5):
                await publish(channel, application.name(), "crm.leads.create.low")
            for _ in range(2):
                await publish(channel, application.name("crm.dlx"), "crm.leads.create.dlq")
            await publish(channel, application.name(), "nowhere")

    asyncio.run(fill())
    return application


def plan(stack: Project, catalog: Catalog) -> None:
    stack.configure(tenant={**ENTRY, "plan": "pro"})


def retention(stack: Project, catalog: Catalog) -> None:
    catalog["modules"]["crm"]["retention"] = "48h"


def priority_levels(stack: Project, catalog: Catalog) -> None:
    catalog["modules"]["crm"]["priority_levels"] = 10


def retry(stack: Project, catalog: Catalog) -> None:
    catalog["retry"] |= {"first_delay": "5s", "max_delay": "2m", "limit": 5}


def strategy(stack: Project, catalog: Catalog) -> None:
    catalog["retry"]["strategy"] = "queues"


EXPECTED: dict[Callable[[Project, Catalog], None], dict[str, str | int]] = {
    plan: {"max-length": 5_000},
    retention: {"message-ttl": 2 * 86_400_000},
    priority_levels: {},
    retry: {"delayed-retry-min": 5_000, "delayed-retry-max": 120_000, "delivery-limit": 5},
    strategy: {"delivery-limit": 3},
}


@pytest.mark.parametrize("change", EXPECTED, ids=lambda change: change.__name__)
def test_a_change_replaces_no_queue_and_loses_no_message(
    stack: Project, application: Application, change: Callable[[Project, Catalog], None]
) -> None:
    stack.configure(tenant=ENTRY)
    write_catalog(stack, "changing.yaml", lambda catalog: change(stack, catalog))
    before = set(application.queues())
    steps = stack.must("up")["steps"]

    assert [step for step in steps if step["op"] in LOSING] == []
    assert before <= set(application.queues())
    assert asyncio.run(application.comes_to_hold(HELD)) == HELD
    queue, wanted = application.name("crm.leads.create"), EXPECTED[change]
    policies = application.policies(lambda policies: policies[queue].items() >= wanted.items())
    assert policies[queue].items() >= wanted.items()
