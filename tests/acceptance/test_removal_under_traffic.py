"""Removing a module or a tenant during publishing loses no confirmed message."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import aio_pika
import pytest

from tests.acceptance.conftest import OWN, Beside, Stacks, needs_cli
from tests.acceptance.test_guard import queue_of
from tests.support.live_broker import LiveBroker
from tests.support.project import Project, tenant
from tests.support.waiting import eventually_async

KEY, QUEUE = "financeiro.faturas.create.medium", "cliente_own.financeiro.faturas.create"
UNROUTED = "cliente_own.unrouted"
NOTE = "kryonix-withdrawn-tenant-own"

Began = Callable[[LiveBroker], bool]


def at_once(broker: LiveBroker) -> bool:
    """Publishing began before the guard asks."""
    return True


def once_unbinding(broker: LiveBroker) -> bool:
    """Publishing begins once the guard has counted: it has noted what it unbinds."""
    return broker.has("global-parameters", NOTE)


async def publish_until(done: asyncio.Event, uri: str) -> int:
    """Publish one by one, and count the confirmed messages."""
    confirmed = 0
    async with await aio_pika.connect(uri) as connection, connection.channel() as channel:
        exchange = await channel.get_exchange("cliente_own", ensure=False)
        while not done.is_set():
            with suppress(aio_pika.exceptions.DeliveryError):  # the queue is full: not confirmed
                await exchange.publish(aio_pika.Message(b"x", delivery_mode=2), KEY)
                confirmed += 1
    return confirmed


async def publishing_while(uri: str, began: Callable[[], bool], work: Callable[[], Any]) -> tuple[int, Any]:
    """Publish from when something has begun until the work is done: how many were confirmed, and the work's result."""
    done = asyncio.Event()
    working = asyncio.create_task(asyncio.to_thread(work))
    await eventually_async(lambda: began() or working.done(), 900, every=0.05)
    publishing = asyncio.create_task(publish_until(done, uri))
    result = await working
    done.set()
    return await publishing, result


def settled_count(broker: LiveBroker, queue: str) -> int:
    """Purge a queue and return its message count; 0 if it does not exist."""
    return broker.take("/cliente_own", queue, 100_000) if broker.has("queues", "/cliente_own", queue) else 0


def trial(stacks: Stacks, broker: LiveBroker, uri: str, began: Began) -> tuple[int, int, int]:
    """Remove a module under traffic: confirmed messages, those that are lost, and the run's exit status."""
    own, engine = stacks.own, stacks.engine
    own.configure(tenant={**OWN, "modules": ["crm", "financeiro"], "plan": "pro"})
    own.must("up", engine=engine)
    own.configure(tenant={**OWN, "modules": ["crm"], "plan": "pro"})
    confirmed, result = asyncio.run(publishing_while(uri, lambda: began(broker), lambda: own.run("up", engine=engine)))
    found = settled_count(broker, QUEUE) + settled_count(broker, UNROUTED)
    return confirmed, confirmed - found, result.returncode


@pytest.mark.parametrize("began", [at_once, once_unbinding])
def test_removing_a_module_loses_no_confirmed_message(stacks: Stacks, began: Began) -> None:
    uri = stacks.own.must("outputs", "--show-secrets", engine=stacks.engine)["tenants"]["own"]["amqp_uri"]
    with LiveBroker(stacks.platform.must("outputs", "--show-secrets", engine=stacks.engine)) as broker:
        confirmed, lost, status = trial(stacks, broker, uri, began)
        assert confirmed > 0
        assert lost == 0
        assert status in (0, 2)
        bindings = {b["destination"] for b in broker.get("bindings", "/cliente_own") if b["source"]}
        assert (QUEUE in bindings) is (status == 2)  # a refused removal leaves it as it was
        stacks.own.configure(tenant=OWN)
        stacks.own.must("up", engine=stacks.engine)
        assert not broker.has("queues", "/cliente_own", QUEUE)
        assert broker.call("GET", "global-parameters", NOTE).status_code in (200, 404)


def test_messages_waiting_for_a_retry_count(beside: Beside, broker: LiveBroker) -> None:
    """A delayed message is neither ready nor unacknowledged, and the queue reports it seconds later."""
    stack = beside("delayed", "crm", "financeiro", plan="pro")
    stack.must("up")
    queue = queue_of("delayed", "financeiro", "faturas.create")
    slow = {"delayed-retry-type": "all", "delayed-retry-min": 600_000, "delayed-retry-max": 600_000}
    kept = {"delivery-limit": 5, "dead-letter-strategy": "at-least-once", "overflow": "reject-publish"}
    policy = {"pattern": f"^{queue}$", "priority": 9, "apply-to": "queues", "definition": {**slow, **kept}}
    broker.put("policies", "/cliente_delayed", "slow", json=policy)
    uri = stack.outputs()["tenants"]["delayed"]["amqp_uri"]
    stack.configure(tenant=tenant("delayed", "crm", plan="pro"))
    asyncio.run(fail_once(broker, uri, queue))
    refused = stack.run("up")
    assert refused.returncode == 2, (refused.stdout, refused.stderr)
    assert f"1 messages in {queue}" in refused.stderr


async def fail_once(broker: LiveBroker, uri: str, queue: str) -> None:
    """Let a message wait for its next attempt, which the policy puts off by ten minutes."""
    async with await aio_pika.connect(uri) as connection, connection.channel() as channel:
        consumed = await channel.get_queue(queue, ensure=False)
        while True:  # until the policy is in force at the queue: before that the message comes back at once
            broker.publish("/cliente_delayed", queue)
            message = await consumed.get(timeout=10)
            await message.reject(requeue=True)
            await asyncio.sleep(0.5)
            again = await consumed.get(fail=False)
            if again is None:
                return
            await again.ack()


def test_a_tenant_with_active_publishers_keeps_its_messages(stacks: Stacks) -> None:
    """A whole tenant: its users are kept out before the last count, and let in again where it is refused."""
    platform, engine = stacks.platform, stacks.engine
    leaving = platform.beside("tenant-leaving", tenant=tenant("leaving", "crm", plan="basic"))
    leaving.must("up", engine=engine)
    uri = leaving.must("outputs", "--show-secrets", engine=engine)["tenants"]["leaving"]["amqp_uri"]
    with LiveBroker(platform.must("outputs", "--show-secrets", engine=engine)) as broker:

        async def through() -> Any:
            work = asyncio.create_task(asyncio.to_thread(destroy, leaving, engine))
            limits = partial(broker.user_limits, "kryonix_leaving")
            await eventually_async(lambda: limits().get("max-connections") == 0 or work.done(), 900, every=0.05)
            with pytest.raises(aio_pika.exceptions.AMQPError):
                await (await aio_pika.connect(uri)).close()
            broker.publish("/cliente_leaving", queue_of("leaving"), 2)  # as one that was on its way
            return await work

        refused = asyncio.run(through())
        assert refused.returncode == 2, (refused.stdout, refused.stderr)
        assert f"2 messages in {queue_of('leaving')}" in refused.stderr
        assert refused.stderr.count("Traceback") == 0
        assert broker.user_limits("kryonix_leaving")["max-connections"] == 10
        assert broker.take("/cliente_leaving", queue_of("leaving"), 10) == 2
    leaving.must("destroy", engine=engine)


def destroy(stack: Project, engine: str) -> Any:
    return stack.run("destroy", engine=engine)


def pulumi(stack: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["pulumi", *arguments, "--yes", "--skip-preview", "--non-interactive", "--stack", stack.stack],
        cwd=stack.folder,
        env=stack.env,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@needs_cli
@pytest.mark.parametrize("stacks", ["pulumi"], indirect=True)
def test_the_cli_replaces_no_queue_with_messages(stacks: Stacks) -> None:
    """`--replace` is the engine's own decision, which no program sees: the safeguards have to go first, and refuse."""
    exported = json.loads(stacks.platform.run("export", engine="pulumi").stdout)["deployment"]["resources"]
    ends = ("Queue::acme/crm.leads.create", "VHost::acme/vhost")
    urns = [entry["urn"] for entry in exported if entry["urn"].endswith(ends)]
    assert len(urns) == len(ends)
    queue = queue_of("acme")
    with LiveBroker(stacks.platform.must("outputs", "--show-secrets", engine="pulumi")) as broker:
        broker.publish("/cliente_acme", queue, 3)
        for urn in urns:
            refused = pulumi(stacks.platform, "up", "--replace", urn)
            assert refused.returncode != 0
            assert f"3 messages in {queue}" in refused.stdout + refused.stderr
        assert broker.take("/cliente_acme", queue, 10) == 3
    assert stacks.platform.run("up", engine="pulumi").returncode == 0


@needs_cli
@pytest.mark.parametrize("stacks", ["pulumi"], indirect=True)
def test_a_cli_destroy_succeeds_with_the_remedy_of_its_refusal(stacks: Stacks) -> None:
    leaving = stacks.platform.beside("tenant-gone", tenant=tenant("gone", "crm", plan="basic"))
    leaving.must("up", engine="pulumi")
    with LiveBroker(stacks.platform.must("outputs", "--show-secrets", engine="pulumi")) as broker:
        broker.publish("/cliente_gone", queue_of("gone"))
        refused = pulumi(leaving, "destroy")
        assert refused.returncode != 0
        said = refused.stdout + refused.stderr
        assert said.index("1 messages in") < said.index("Traceback")
        assert "run `up` (`kryonix up` or `pulumi up`), and run this again" in said
        leaving.configure(allowDelete=[queue_of("gone")])
        assert pulumi(leaving, "up").returncode == 0
        gone = pulumi(leaving, "destroy")
        assert gone.returncode == 0, gone.stdout + gone.stderr
        assert not broker.has("vhosts", "/cliente_gone")
