"""Tenants cannot create or delete bindings, because RabbitMQ does not limit them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import product
from typing import Any, Final, Literal

import docker
import httpx
import pytest
from aio_pika.abc import AbstractChannel
from aiormq.exceptions import ChannelAccessRefused

from kryonix.messaging.amqp.properties import ExactProperties
from kryonix.messaging.redrive.unrouted import count_routes
from kryonix.topology.naming import Names
from tests.support.amqp import Account, Application, publish, take
from tests.support.containers import output_of
from tests.support.project import Project

Kind = Literal["exchange", "queue"]
BUILT_IN: Final = ("amq.topic", "amq.fanout")
KEY: Final = "crm.leads.create.*"


def pairs(tenant: Application) -> Iterator[tuple[str, Kind, str]]:
    """Every source, and every exchange and queue that could be bound to it."""
    found: list[dict[str, Any]] = tenant.admin.get("exchanges", tenant.vhost)
    exchanges = [each["name"] for each in found if each["name"] in BUILT_IN or each["name"].startswith(tenant.name())]
    for source, destination in product(exchanges, exchanges):
        yield source, "exchange", destination
    for source, destination in product(exchanges, tenant.queues()):
        yield source, "queue", destination


async def attempt(channel: AbstractChannel, method: str, source: str, kind: Kind, destination: str) -> None:
    get = channel.get_exchange if kind == "exchange" else channel.get_queue
    await getattr(await get(destination, ensure=False), method)(source, KEY)


@pytest.mark.parametrize("method", ["bind", "unbind"])
def test_a_tenant_cannot_bind_or_unbind_by_amqp(beta: Application, method: str) -> None:
    async def run() -> list[tuple[str, Kind, str]]:
        allowed = []
        async with await beta.account.connect() as connection:
            for source, kind, destination in tried:
                async with connection.channel() as channel:
                    try:
                        await attempt(channel, method, source, kind, destination)
                    except ChannelAccessRefused:
                        continue
                    allowed.append((source, kind, destination))
        return allowed

    before, tried = beta.admin.get("bindings", beta.vhost), list(pairs(beta))
    assert len(tried) > 200
    assert asyncio.run(run()) == []
    assert beta.admin.get("bindings", beta.vhost) == before


@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize("user", ["account", "stats"])
def test_a_tenant_cannot_bind_or_unbind_by_http(beta: Application, method: str, user: str) -> None:
    before, tried = beta.admin.get("bindings", beta.vhost), list(pairs(beta))
    refused = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN, httpx.codes.NOT_FOUND)
    account: Account = getattr(beta, user)
    with account.api() as api:
        for source, kind, destination in tried:
            key = (KEY.replace("*", "%2A"),) if method == "DELETE" else ()
            body = {"routing_key": KEY} if method == "POST" else None
            answer = api.call(method, "bindings", beta.vhost, "e", source, kind[0], destination, *key, json=body)
            assert answer.status_code in refused, (source, kind, destination, answer.text)
    assert beta.admin.get("bindings", beta.vhost) == before


def test_a_tenant_can_neither_read_nor_purge_unrouted(beta: Application) -> None:
    async def run() -> None:
        for method, options in (("get", {"fail": False}), ("purge", {}), ("consume", {"callback": print})):
            async with beta.account.channel() as channel:
                queue = await channel.get_queue(beta.name("unrouted"), ensure=False)
                with pytest.raises(ChannelAccessRefused):
                    await getattr(queue, method)(**options)

    asyncio.run(run())


def test_an_operator_can_inspect_and_resend_unrouted_messages(
    platform: Project, outputs: dict[str, Any], beta: Application
) -> None:
    # Plain aio-pika halves floats, and cuts names after 128 bytes.
    kept: dict[str, Any] = {"kept": 0.1, "n" * 200: "yes"}

    async def send() -> None:
        async with beta.account.channel() as channel:
            await publish(channel, beta.name(), "nowhere", b"lost", message_id="1", headers={"kept": "yes"})
            exact = ExactProperties(message_id="2", delivery_mode=2, priority=0, headers=kept)
            raw = await channel.get_underlay_channel()
            await raw.basic_publish(b"found", exchange=beta.name(), routing_key="found.later", properties=exact)

    def unrouted(*arguments: str) -> dict[str, Any]:
        result = platform.kryonix("unrouted", "beta", "--stack", platform.stack, "--json", *arguments)
        assert result.returncode == 0, result.stderr
        return dict(json.loads(result.stdout))

    async def taken() -> tuple[bytes, str | None, object]:
        async with beta.account.channel() as channel:
            message = await take(channel, beta.name("crm.leads.create"))
            await message.ack()
            # The broker adds counters of its own.
            return message.body, message.message_id, {name: message.headers[name] for name in kept}

    asyncio.run(send())
    routes = [{"exchange": beta.name(), "routing_key": key, "messages": 1} for key in ("nowhere", "found.later")]
    for _ in range(25):  # more than the failed deliveries after which the broker drops a message
        assert asyncio.run(count_routes(outputs, Names("beta"), 10)).waiting == 2
    assert unrouted() == {"routes": routes, "redriven": False, "waiting": 2}
    bound = ("bindings", beta.vhost, "e", beta.name(), "q", beta.name("crm.leads.create"))
    beta.admin.call("POST", *bound, json={"routing_key": "found.later"}).raise_for_status()
    try:
        assert unrouted("--redrive") == {"routes": routes, "redriven": True, "waiting": 1}
        assert asyncio.run(taken()) == (b"found", "2", kept)
        assert unrouted()["routes"] == routes[:1]
    finally:
        beta.admin.call("DELETE", *bound, "found.later").raise_for_status()


def test_unrouted_messages_are_counted_on_a_busy_broker(
    platform: Project, outputs: dict[str, Any], beta: Application
) -> None:
    """Its queue has no answer for a moment: a passive declaration says then that it is empty."""

    async def send() -> None:
        async with beta.account.channel() as channel:
            await publish(channel, beta.name(), "nowhere")

    def queue(call: str) -> None:
        process = f"{beta.vhost}_{beta.name('unrouted')}"
        with closing(docker.from_env()) as client:
            broker = client.containers.get(f"kryonix-{platform.stack}-rabbitmq")
            output_of(broker, "rabbitmqctl", "eval", f"sys:{call}('{process}').", user="rabbitmq")

    asyncio.run(beta.empty())
    asyncio.run(send())
    with ThreadPoolExecutor(1) as pool:
        queue("suspend")
        try:
            counting = pool.submit(asyncio.run, count_routes(outputs, Names("beta"), 10))
            with suppress(TimeoutError):
                counting.result(2)
        finally:
            queue("resume")
        assert counting.result().waiting == 1
    asyncio.run(beta.empty())
