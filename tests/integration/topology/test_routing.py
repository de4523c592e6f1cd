"""Routing: each publish exchange reaches exactly the queues of the design."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from aio_pika.abc import AbstractIncomingMessage

from kryonix.messaging.message import RECEIVED_HEADER
from kryonix.topology.catalog import default_catalog
from tests.support.amqp import Application, publish, take

ACTIONS = {name: module.actions for name, module in default_catalog().modules.items()}
MOBILE = ("crm", "whatsapp", "agendamento", "marketing", "analytics", "portal")
CRITICAL = ("crm", "financeiro")
WITH_AI_ROUTING = ("crm", "whatsapp", "agendamento", "financeiro", "marketing", "analytics")


def queues_of(modules: Iterable[str], each: int = 1) -> dict[str, int]:
    return {f"{module}.{action}": each for module in modules for action in ACTIONS[module]}


def reaches(tenant: Application, exchange: str, *keys: str, only: dict[str, int]) -> bool:
    """Assert that messages of the tenant, one per key, reach exactly the expected queues."""

    async def run() -> dict[str, int]:
        async with tenant.account.channel() as channel:
            await asyncio.gather(*(publish(channel, exchange, key) for key in keys))
        return await tenant.comes_to_hold(only)

    held = asyncio.run(run())
    assert held == only
    return True


def keys(form: str) -> list[str]:
    return [form.format(f"{module}.{action}") for module, actions in ACTIONS.items() for action in actions]


def test_all_modules_have_the_43_actions() -> None:
    assert sum(len(actions) for actions in ACTIONS.values()) == 43


@pytest.mark.parametrize("priority", ["high", "medium", "low"])
def test_the_main_exchange_brings_every_action_to_its_own_queue(acme: Application, priority: str) -> None:
    assert reaches(acme, "cliente_acme", *keys(f"{{}}.{priority}"), only=queues_of(ACTIONS))


def test_the_mobile_exchange_reaches_mobile_priority_modules_only(acme: Application) -> None:
    only = {**queues_of(MOBILE), "unrouted": len(queues_of(["financeiro", "whitelabel"]))}
    assert reaches(acme, "cliente_acme.mobile_priority", *keys("mobile.{}"), only=only)


def test_the_critical_exchange_reaches_financeiro_and_crm_only(acme: Application) -> None:
    only = {**queues_of(CRITICAL), "unrouted": 43 - len(queues_of(CRITICAL))}
    assert reaches(acme, "cliente_acme.business_critical", *keys("critical.{}"), only=only)


@pytest.mark.parametrize("key", ["", "crm.leads.create.high"])
def test_the_automation_exchange_reaches_ai_routing_modules_only(acme: Application, key: str) -> None:
    assert reaches(acme, "cliente_acme.automation", key, only=queues_of(WITH_AI_ROUTING))


@pytest.mark.parametrize(
    ("exchange", "key"),
    [
        ("", "crm.leads.creates.high"),
        ("", "crm.leads.create"),
        ("", "crm.leads.create.high.now"),
        ("", "mobile.crm.leads.create"),
        ("", ""),
        (".mobile_priority", "mobile.crm.leads.creates"),
        (".mobile_priority", "crm.leads.create.high"),
        (".business_critical", "critical.crm.leads.creates"),
        (".business_critical", "crm.leads.create"),
    ],
)
def test_an_unroutable_message_goes_to_unrouted(beta: Application, exchange: str, key: str) -> None:
    assert reaches(beta, f"cliente_beta{exchange}", key, only={"unrouted": 1})


def test_a_broadcast_without_receivers_goes_to_unrouted(oldstyle: Application) -> None:
    assert reaches(oldstyle, "cliente_oldstyle.automation", "", only={"unrouted": 1})


def test_an_unrouted_message_keeps_its_destination(beta: Application) -> None:
    async def run() -> AbstractIncomingMessage:
        async with beta.account.channel() as channel:
            await publish(channel, "cliente_beta", "crm.nothing.high", b"body", headers={"trace": "1"})
        async with beta.admin.channel() as channel:  # the queue is the operators' to look at
            message = await take(channel, beta.name("unrouted"))
            await message.ack()
            return message

    message = asyncio.run(run())
    assert (message.exchange, message.routing_key) == ("cliente_beta", "crm.nothing.high")
    added = {RECEIVED_HEADER: message.headers[RECEIVED_HEADER]}  # by the broker
    assert (message.body, message.headers) == (b"body", {"trace": "1", **added})


def test_a_message_for_a_missing_module_goes_to_unrouted(beta: Application) -> None:
    assert reaches(beta, "cliente_beta", "whatsapp.messages.send.high", only={"unrouted": 1})


def test_another_tenants_queues_receive_nothing(acme: Application, beta: Application) -> None:
    assert reaches(beta, "cliente_beta", "crm.leads.create.high", only={"crm.leads.create": 1})
    assert asyncio.run(acme.holding()) == {}


def test_a_priority_lane_gets_its_priority_the_action_queue_the_others(lab: Application) -> None:
    sent = [f"crm.leads.create.{priority}" for priority in ("high", "high", "medium", "low")]
    only = {"crm.leads.create.high": 2, "crm.leads.create": 2, "crm.leads.update": 1}
    assert reaches(lab, "cliente_lab", *sent, "crm.leads.update.high", only=only)
