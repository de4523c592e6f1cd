"""No operation deletes a queue with messages unless the config accepts it."""

from __future__ import annotations

import asyncio
from typing import Any

import aio_pika
import httpx

from tests.acceptance.conftest import Beside, Planned, changed
from tests.support.live_broker import LiveBroker
from tests.support.project import Project, tenant

CREATE = "leads.create"


def queue_of(id: str, module: str = "crm", action: str = CREATE) -> str:
    return f"cliente_{id}.{module}.{action}"


def assert_refused(project: Project, operation: str, *said: str) -> str:
    """Return what the refused operation wrote to standard output."""
    result = project.run(operation)
    assert result.returncode == 2, (result.stdout, result.stderr)
    for part in said:
        assert part in result.stderr, f"{part!r} is not in:\n{result.stderr}"
    assert "Traceback" not in result.stderr
    return result.stdout


def test_a_module_whose_queues_hold_messages_is_not_removed(
    beside: Beside, planned: Planned, broker: LiveBroker
) -> None:
    stack = beside("guarded", "crm", "financeiro")
    stack.must("up")
    before = planned(stack)
    queue, dead = queue_of("guarded"), f"{queue_of('guarded')}.dlq"
    broker.publish("/cliente_guarded", queue, 3)
    broker.publish("/cliente_guarded", dead, 1)
    stack.configure(tenant=tenant("guarded", "financeiro", plan="pro"))
    for operation in ("preview", "up"):
        shown = assert_refused(
            stack, operation, f"3 messages in {queue} (vhost /cliente_guarded)", f"in {dead} ", "kryonix:allowDelete"
        )
        assert ("guarded: 14 queues" in shown) == (operation == "preview"), shown
        broker.assert_is(before)

    stack.configure(allowDelete=[queue])
    assert_refused(stack, "up", f"in {dead} ")
    broker.assert_is(before)

    stack.configure(allowDelete=[queue, dead])
    stack.must("preview")
    broker.assert_is(before)
    stack.must("up")
    broker.assert_is(planned(stack))


def test_changes_in_place_keep_every_message(beside: Beside, planned: Planned, broker: LiveBroker) -> None:
    stack = beside("changing", "crm")
    stack.must("up")
    broker.publish("/cliente_changing", queue_of("changing"), 2)
    stack.configure(tenant=tenant("changing", "crm", "financeiro", plan="enterprise"))
    assert stack.must("up")["changes"].keys().isdisjoint({"delete", "replace"})
    broker.assert_is(planned(stack))
    assert broker.take("/cliente_changing", queue_of("changing"), 10) == 2


def test_a_tenant_with_messages_is_not_destroyed(beside: Beside, planned: Planned, broker: LiveBroker) -> None:
    stack = beside("held", "crm")
    stack.must("up")
    broker.publish("/cliente_held", queue_of("held"), 2)
    assert_refused(
        stack,
        "destroy",
        "error: this change would delete",
        f"2 messages in {queue_of('held')}",
        "accept the loss in the stack's config, run `up` (`kryonix up` or `pulumi up`), and run this again",
        f"kryonix:allowDelete: [{queue_of('held')}]",
    )
    broker.assert_is(planned(stack))
    assert changed(stack.must("up")) == []
    uri = stack.outputs()["tenants"]["held"]["amqp_uri"]
    assert asyncio.run(consume(uri, queue_of("held"))) == b"x"

    assert broker.take("/cliente_held", queue_of("held"), 10) == 1
    stack.must("destroy")
    broker.assert_is_gone(planned(stack))


def test_a_destroy_succeeds_when_the_loss_is_accepted(beside: Beside, planned: Planned, broker: LiveBroker) -> None:
    stack = beside("accepted", "crm")
    stack.must("up")
    broker.publish("/cliente_accepted", queue_of("accepted"))
    assert_refused(stack, "destroy", "messages in")
    stack.configure(allowDelete=["cliente_accepted.*"])
    stack.must("destroy")
    broker.assert_is_gone(planned(stack))


def test_unacknowledged_messages_count(beside: Beside, broker: LiveBroker) -> None:
    stack = beside("unacked", "crm")
    stack.must("up")
    uri = stack.outputs()["tenants"]["unacked"]["amqp_uri"]
    broker.publish("/cliente_unacked", queue_of("unacked"))
    asyncio.run(hold_while(uri, queue_of("unacked"), lambda: assert_refused(stack, "destroy", queue_of("unacked"))))


def test_a_suspended_tenants_messages_count(beside: Beside, broker: LiveBroker) -> None:
    stack = beside("paused", "crm")
    stack.must("up")
    broker.publish("/cliente_paused", queue_of("paused"))
    broker.put("vhost-limits", "/cliente_paused", "max-connections", json={"value": 0})
    assert_refused(stack, "destroy", f"messages in {queue_of('paused')}")


def test_a_vhost_is_protected_from_deletion_by_hand(beside: Beside, broker: LiveBroker) -> None:
    stack = beside("locked", "crm")
    stack.must("up")
    answer = broker.call("DELETE", "vhosts", "/cliente_locked")
    assert answer.status_code == httpx.codes.PRECONDITION_FAILED
    assert broker.has("vhosts", "/cliente_locked")


def test_a_platform_ignores_tenants_of_other_stacks(
    platform: Project, beside: Beside, planned: Planned, broker: LiveBroker
) -> None:
    stack = beside("neighbour", "crm")
    stack.must("up")
    broker.publish("/cliente_neighbour", queue_of("neighbour"))
    assert changed(platform.must("preview")) == []
    assert changed(platform.must("up")) == []
    broker.assert_is(planned(stack))


def test_a_manually_created_queue_is_left_alone(beside: Beside, broker: LiveBroker) -> None:
    """No engine would delete it, so it holds no change back, and it stays bound."""
    stack = beside("byhand", "crm", "financeiro", plan="pro")
    stack.must("up")
    vhost, foreign = "/cliente_byhand", "cliente_byhand.financeiro.of.somebody"
    broker.put("queues", vhost, foreign, json={"durable": True, "arguments": {"x-queue-type": "quorum"}})
    bound = ("bindings", vhost, "e", "cliente_byhand", "q", foreign)
    broker.call("POST", *bound, json={"routing_key": "financeiro.#", "arguments": {}}).raise_for_status()
    broker.publish(vhost, foreign)
    stack.configure(tenant=tenant("byhand", "crm", plan="pro"))
    stack.must("up")
    assert not broker.has("queues", vhost, queue_of("byhand", "financeiro", "faturas.create"))
    assert broker.get(*bound)
    assert broker.take(vhost, foreign, 10) == 1


async def consume(uri: str, queue: str) -> bytes:
    async with await aio_pika.connect(uri) as connection, connection.channel() as channel:
        message: Any = await (await channel.get_queue(queue, ensure=False)).get()
        await message.ack()
        return bytes(message.body)


async def hold_while(uri: str, queue: str, action: Any) -> None:
    """Take a message and not acknowledge it while something is done."""
    async with await aio_pika.connect(uri) as connection, connection.channel() as channel:
        message = await (await channel.get_queue(queue, ensure=False)).get()
        await asyncio.to_thread(action)
        await message.ack()
