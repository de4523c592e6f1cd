"""send, consume, stats and redrive, as an operator runs them against a real broker."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import docker
import pytest
from aio_pika.exceptions import DeliveryError

from kryonix.messaging import Message, MessagingClient, Reject
from kryonix.messaging.amqp.properties import ExactProperties
from kryonix.messaging.configuration import find_address
from kryonix.messaging.redrive.letters import peek
from kryonix.topology.catalog import default_catalog
from tests.support.amqp import publish, ready, take
from tests.support.containers import output_of
from tests.support.live_broker import LiveBroker
from tests.support.project import Project
from tests.support.tenants import Own, own_tenant, owner
from tests.support.waiting import eventually

CRITICAL = 9
CATALOG, LEADS = default_catalog(), ("crm", "leads.create")


@pytest.fixture(scope="module")
def own(platform: Project, broker: LiveBroker) -> Iterator[Own]:
    with own_tenant(platform, broker, "opsmsg", "crm", "whatsapp", "financeiro", plan="enterprise") as made:
        yield made


@pytest.fixture(autouse=True)
def _empty(own: Own) -> None:
    asyncio.run(own.application.empty())


def test_the_commands_send_and_consume_one_message(own: Own) -> None:
    sent = own.json(
        "send", "crm.leads.create", '{"name": "Ana"}', "--message-id", "m-1", "--header", "source=hand", "--json"
    )
    assert (sent["exchange"], sent["routing_key"]) == ("cliente_opsmsg", "crm.leads.create.medium")

    taken = own.run("consume", "crm.leads.create", "--limit", "1", "--wait", "20")
    assert taken.returncode == 0, taken.stderr
    message = json.loads(taken.stdout)
    assert (message["message_id"], message["data"], message["headers"]["source"]) == ("m-1", {"name": "Ana"}, "hand")
    assert "1 message(s) taken" in taken.stderr
    again = own.run("consume", "crm.leads.create", "--wait", "1")
    assert (again.returncode, again.stdout) == (0, "")


def test_send_reads_stdin_and_uses_the_modules_priority(own: Own) -> None:
    command = own.project.command("send", "whatsapp.messages.send", "--json")
    sent = subprocess.run(
        command, cwd=own.project.folder, env=own.env, input=b"[1, 2]", capture_output=True, timeout=60, check=False
    )
    assert sent.returncode == 0, sent.stderr
    assert json.loads(sent.stdout)["priority"] == 8


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("send", "crm.lead.create", "{}"), 2, "leads.create"),
        (("send", "analytics.dashboards.atualizar", "{}"), 1, "no queue"),
        (("redrive", "--module", "analytics"), 2, "other modules"),
    ],
)
def test_a_missing_module_is_reported_with_a_remedy(
    own: Own, arguments: tuple[str, ...], status: int, said: str
) -> None:
    result = own.run(*arguments)
    assert result.returncode == status, result.stderr
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_an_absent_broker_exits_with_the_unreachable_status(own: Own) -> None:
    away = {**own.env, "KRYONIX_AMQP_URI": "amqp://kryonix_opsmsg:hidden@127.0.0.1:1/%2Fcliente_opsmsg"}
    for arguments in (("send", "crm.leads.create", "{}", "--timeout", "1"), ("redrive",)):
        result = own.run(*arguments, env=away)
        assert result.returncode == 3, result.stderr
        assert "hidden" not in result.stdout + result.stderr


def test_a_password_file_readable_by_others_is_refused(own: Own, tmp_path: Path) -> None:
    file, env = tmp_path / "outputs.json", dict(own.env)
    del env["KRYONIX_AMQP_URI"], env["KRYONIX_MANAGEMENT_URL"]
    file.write_text(json.dumps(own.outputs))
    file.chmod(0o644)
    refused = own.run("stats", "--outputs", str(file), env=env)
    assert refused.returncode == 2
    assert "chmod 600" in refused.stderr
    file.chmod(0o600)
    accepted = own.run("stats", "--outputs", str(file), "--tenant", "opsmsg", "--json", env=env)
    assert accepted.returncode == 0, accepted.stderr
    assert own.application.account.password not in accepted.stdout + accepted.stderr


def test_an_operator_names_the_stack(own: Own) -> None:
    env = dict(own.env)
    del env["KRYONIX_AMQP_URI"]
    result = own.run("stats", "--stack", own.project.stack, "--json", "--module", "crm", env=env)
    assert result.returncode == 0, result.stderr
    assert {queue["module"] for queue in json.loads(result.stdout)} == {"crm"}


@pytest.mark.parametrize("tenant", ["opsmsg", "acme"], ids=["own stack", "tenants.yaml"])
def test_an_operator_names_the_platform_and_any_tenant(platform: Project, own: Own, tenant: str) -> None:
    env = dict(own.env)
    del env["KRYONIX_AMQP_URI"]
    result = own.run("stats", "--stack", platform.stack, "--tenant", tenant, "--json", env=env)
    assert result.returncode == 0, result.stderr
    assert {queue["name"].split(".")[0] for queue in json.loads(result.stdout)} == {f"cliente_{tenant}"}


def test_a_tenant_of_a_config_file_is_changed_there(own: Own, platform: Project) -> None:
    refused = own.run("tenant", "suspend", "opsmsg", "--stack", platform.stack, "--engine", "local")
    assert refused.returncode == 2
    assert "is declared in Pulumi.tenant-opsmsg.yaml" in refused.stderr
    shown = own.json("tenant", "show", "opsmsg", "--stack", platform.stack, "--engine", "local", "--json")
    assert (shown["managed_by"], shown["cell"]) == ("Pulumi.tenant-opsmsg.yaml", "main")


def test_stats_show_a_live_table_until_interrupted(own: Own) -> None:
    asyncio.run(sent(own, 3))
    terminal, screen = pty.openpty()
    process = subprocess.Popen(
        own.project.command("stats", "--watch", "--interval", "0.5"),
        cwd=own.project.folder,
        env=own.env,
        stdin=subprocess.DEVNULL,
        stdout=screen,
        stderr=screen,
    )
    os.close(screen)
    try:
        shown, deadline = "", time.monotonic() + 120
        while shown.count("crm.leads.create") < 2:  # as it was, and half a second later
            assert time.monotonic() < deadline, f"no live table, but: {shown}"
            if select.select([terminal], [], [], 1)[0]:
                shown += os.read(terminal, 65_536).decode(errors="replace")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def test_live_stats_are_appended_without_a_terminal(own: Own, tmp_path: Path) -> None:
    asyncio.run(sent(own, 3))
    with (tmp_path / "stats").open("wb") as file:
        command = own.project.command("stats", "--watch", "--interval", "0.5")
        none = subprocess.DEVNULL
        process = subprocess.Popen(command, cwd=own.project.folder, env=own.env, stdin=none, stdout=file, stderr=none)
    try:
        eventually("two tables", lambda: (tmp_path / "stats").read_text().count("crm.leads.create") >= 2)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


async def sent(own: Own, count: int, **properties: Any) -> None:
    """Messages with the ids 0, 1, 2 … for crm's leads.create."""
    async with own.application.account.channel() as channel:
        key = "crm.leads.create.medium"
        for start in range(0, count, 200):
            ids = [str(number) for number in range(start, min(start + 200, count))]
            sends = (publish(channel, own.application.name(), key, message_id=id, **properties) for id in ids)
            await asyncio.gather(*sends)


def test_redrive_returns_dead_letters_to_their_queues(own: Own) -> None:
    async def make() -> None:
        app = own.application
        async with app.account.channel() as channel:
            for id, exchange, key, priority in (
                ("main", app.name(), "crm.leads.create.low", 2),
                ("critical", app.name("business_critical"), "critical.financeiro.faturas.create", CRITICAL),
                ("mobile", app.name("mobile_priority"), "mobile.crm.leads.create", 5),
            ):
                await publish(
                    channel, exchange, key, b"{}", message_id=id, priority=priority, correlation_id="c", expiration=0.05
                )
        expired = {"crm.leads.create.dlq": 2, "financeiro.faturas.create.dlq": 1}
        assert await own.application.comes_to_hold(expired, within_s=30) == expired
        await rejected(own, "sdk")  # only now, or it would reject those that have not expired yet

    asyncio.run(make())
    dead = {"crm.leads.create.dlq": 3, "financeiro.faturas.create.dlq": 1}
    assert asyncio.run(own.application.comes_to_hold(dead, within_s=30)) == dead

    counted = own.json("redrive", "--dry-run", "--json")
    assert (counted["moved"], sum(queue["found"] for queue in counted["queues"])) == (0, 4)
    assert asyncio.run(own.application.comes_to_hold(dead)) == dead

    assert own.json("redrive", "--limit", "1", "--module", "crm", "--json")["moved"] == 1
    shown = own.run("redrive", "--tenant", "opsmsg")
    assert shown.returncode == 0, shown.stderr
    assert "3 dead letter(s) put back" in shown.stdout

    found = {message.message_id: message for message in asyncio.run(taken(own, ("crm.leads.create",) * 3))}
    found |= {message.message_id: message for message in asyncio.run(taken(own, ("financeiro.faturas.create",)))}
    assert {id: (m.exchange, m.routing_key) for id, m in found.items()} == {
        "main": ("cliente_opsmsg", "crm.leads.create.low"),
        "critical": ("cliente_opsmsg.business_critical", "critical.financeiro.faturas.create"),
        "mobile": ("cliente_opsmsg.mobile_priority", "mobile.crm.leads.create"),
        "sdk": ("cliente_opsmsg", "crm.leads.create.medium"),
    }
    assert all(message.headers["kryonix-redrives"] == 1 for message in found.values())
    assert found["sdk"].headers["kryonix-redrive-reason"] == "not today"
    assert found["main"].headers["kryonix-redrive-reason"] == "expired"
    assert (found["main"].priority, found["main"].correlation_id, found["main"].expiration) == (2, "c", None)
    assert "x-death" not in found["main"].headers


def test_a_dead_letter_without_an_origin_stays(own: Own) -> None:
    async def make() -> None:
        async with own.application.account.channel() as channel:
            await publish(channel, own.application.name("crm", "dlx"), "crm.leads.create.dlq", message_id="foreign")

    asyncio.run(make())
    result = own.run("redrive")
    assert result.returncode == 1
    assert "1 dead letter(s) were left: their origin is unknown" in result.stderr
    dead = {"crm.leads.create.dlq": 1}
    assert asyncio.run(own.application.comes_to_hold(dead)) == dead


def test_a_peek_takes_nothing_and_counts_no_delivery(own: Own) -> None:
    ids = [str(number) for number in range(5)]
    asyncio.run(sent(own, len(ids), expiration=0.05))
    dead = {"crm.leads.create.dlq": len(ids)}
    assert asyncio.run(own.application.comes_to_hold(dead, within_s=30)) == dead
    for _ in range(25):  # the broker's own limit is 20 deliveries
        shown = asyncio.run(peek(find_address(own.env["KRYONIX_AMQP_URI"], None, None, None), CATALOG, [LEADS]))
        assert sorted(str(letter.message_id) for letter in shown) == ids
    assert asyncio.run(own.application.comes_to_hold(dead)) == dead
    first = own.json("dead-letters", "show", "--limit", "1", "--payload", "--json")[0]
    assert (first["reason"], first["routing_key"]) == ("expired", "crm.leads.create.medium")
    assert first["died_at"] is not None
    assert not int(first["headers"].get("x-delivery-count", 0))
    assert own.json("dead-letters", "redrive", "--json")["moved"] == len(ids)
    assert sorted(asyncio.run(drained(own, "crm.leads.create"))) == ids


def test_dead_letters_are_listed_exported_and_discarded(own: Own, platform: Project, tmp_path: Path) -> None:
    async def make() -> None:
        await rejected(own, "sdk")
        await foreign(own, "crm.leads.create.low", "deep", {"h": nested(200)}, expiration="50")
        await foreign(own, "crm.contacts.sync.low", "same", {}, b"\xff", expiration="50")
        await foreign(own, "crm.contacts.sync.low", "same", {}, b"\xff", expiration="50")

    asyncio.run(make())
    dead = {"crm.leads.create.dlq": 2, "crm.contacts.sync.dlq": 2}
    assert asyncio.run(own.application.comes_to_hold(dead, within_s=30)) == dead
    actions = {queue["action"]: queue["reasons"] for queue in own.json("dead-letters", "list", "--json")}
    assert actions["crm.leads.create"] == {"not today": 1, "expired": 1}

    def listed() -> bool:
        everyone = own.json("dead-letters", "list", "--stack", platform.stack, "--json")
        return {each["tenant"]: each["dead_letters"] for each in everyone}.get("opsmsg") == 4

    eventually("the platform counts the dead letters", listed)
    exported = own.run("dead-letters", "export", "--module", "crm")
    assert exported.returncode == 0, exported.stderr
    letters = {each["message_id"]: each for each in map(json.loads, exported.stdout.splitlines())}
    assert (letters["sdk"]["attempts"], letters["sdk"]["died_at"] is None) == (1, False)
    assert len(exported.stdout.splitlines()) == 4
    assert asyncio.run(own.application.comes_to_hold(dead)) == dead

    record = tmp_path / "record.jsonl"
    discard = ("dead-letters", "discard", "--output", str(record))
    refused = own.run(*discard)
    assert (refused.returncode, record.exists()) == (2, False)
    assert "no terminal" in refused.stderr
    assert own.json(*discard, "--id", "same", "--yes", "--json")["discarded"] == 2
    left = {"crm.leads.create.dlq": 2}
    assert asyncio.run(own.application.comes_to_hold(left)) == left
    assert own.json(*discard, "--yes", "--json")["discarded"] == 2
    assert [json.loads(line)["message_id"] for line in record.read_text().splitlines()].count("same") == 2
    assert asyncio.run(own.application.comes_to_hold({})) == {}


async def foreign(own: Own, key: str, id: str, headers: dict[str, Any], body: bytes = b"{}", **more: Any) -> None:
    """A message of another client's, with properties that the SDK would not write, and soon a dead letter."""
    properties = ExactProperties(headers=headers, message_id=id, delivery_mode=2, **more)
    async with own.application.account.channel() as channel:
        underlay = await channel.get_underlay_channel()
        await underlay.basic_publish(body, exchange=own.application.name(), routing_key=key, properties=properties)


def nested(levels: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(levels):
        found = [found]
    return found


def test_redrive_keeps_and_counts_an_unwritable_dead_letter(own: Own) -> None:
    async def make() -> None:
        soon: dict[str, Any] = {"expiration": "50"}
        await foreign(own, "crm.leads.create.low", "large", {"h": "x" * 130_950}, **soon)
        await foreign(own, "crm.leads.create.low", "latin", {"owner": "jo\xe3o".encode("latin-1")}, **soon)
        await foreign(own, "crm.leads.create.low", "deep", {"h": nested(200)}, **soon)
        await foreign(own, "crm.leads.update.low", "update", {"at": datetime(2026, 1, 2, tzinfo=UTC)}, **soon)
        others = {"sum": Decimal("9.99"), "none": None, "octets": bytearray(b"\xff")}
        await foreign(own, "crm.contacts.sync.low", "sync", others, **soon)

    asyncio.run(make())
    dead = {"crm.leads.create.dlq": 3, "crm.leads.update.dlq": 1, "crm.contacts.sync.dlq": 1}
    assert asyncio.run(own.application.comes_to_hold(dead)) == dead

    result = own.run("redrive", "--module", "crm", "--json")
    assert result.returncode == 1, result.stderr
    told = json.loads(result.stdout)
    leads = next(queue for queue in told["queues"] if queue["action"] == "leads.create")
    assert (told["moved"], leads["uncopyable"], leads["without_origin"]) == (4, 1, 0)
    assert "its headers are 131," in leads["uncopyable_because"][0]
    assert "1 dead letter(s) were left: they can't be copied (its headers are 131," in result.stderr
    left = {"crm.leads.create": 2, "crm.leads.update": 1, "crm.contacts.sync": 1, "crm.leads.create.dlq": 1}
    assert asyncio.run(own.application.comes_to_hold(left)) == left

    back = asyncio.run(taken(own, ("crm.leads.create", "crm.leads.create", "crm.leads.update", "crm.contacts.sync")))
    headers = {message.message_id: message.headers for message in back}
    assert headers["latin"]["owner"] == "jo\xe3o".encode("latin-1")
    assert headers["deep"]["h"] == nested(200)
    assert headers["update"]["at"] == datetime(2026, 1, 2, tzinfo=UTC)
    assert (headers["sync"]["sum"], headers["sync"]["none"]) == (Decimal("9.99"), None)

    again = own.run("redrive", "--module", "crm")  # it says so each time, and it moves nothing
    assert again.returncode == 1
    assert "0 dead letter(s) put back" in again.stdout
    assert "can't be copied" in again.stdout


def test_redrive_keeps_a_dead_letter_larger_than_the_brokers_limit(own: Own) -> None:
    async def make() -> None:
        for number in range(10):
            await foreign(own, "crm.leads.create.low", f"small-{number}", {}, expiration="50")
        await foreign(own, "crm.leads.create.low", "large", {}, b"x" * 2_000, expiration="50")
        await foreign(own, "crm.leads.update.low", "other", {}, expiration="50")

    asyncio.run(make())
    dead = {"crm.leads.create.dlq": 11, "crm.leads.update.dlq": 1}
    assert asyncio.run(own.application.comes_to_hold(dead)) == dead
    with largest_message(own, 1_000):
        result = own.run("redrive", "--json")
    assert result.returncode == 1, result.stderr
    assert "it is 2,000 bytes, the broker takes at most 1,000" in result.stderr
    assert json.loads(result.stdout)["moved"] == 11
    held = asyncio.run(own.application.holding())
    assert (held["crm.leads.create.dlq"], held["crm.leads.update"]) == (1, 1)
    ids = asyncio.run(drained(own, "crm.leads.create"))
    assert set(ids) == {f"small-{number}" for number in range(10)}


@contextmanager
def largest_message(own: Own, size: int) -> Iterator[None]:
    """The broker takes no larger messages for the block: an administrator has lowered the limit."""
    client = docker.from_env()
    (broker,) = client.containers.list(filters={"publish": own.application.admin.port})

    def run(code: str) -> str:
        return output_of(broker, "rabbitmqctl", "eval", f"{code}.").strip()

    before = run("persistent_term:get(max_message_size)")
    run(f"persistent_term:put(max_message_size, {size})")
    try:
        yield
    finally:
        run(f"persistent_term:put(max_message_size, {before})")
        client.close()


def test_redrive_does_not_repeat_a_cc_copy(own: Own) -> None:
    async def make() -> None:
        async with await MessagingClient.connect(own.env["KRYONIX_AMQP_URI"], application="test") as client:
            handled = asyncio.Semaphore(0)

            async def refuse(message: Message) -> None:
                handled.release()
                raise Reject("not today")

            await client.crm.consume("leads.create", refuse)
            await client.crm.consume("contacts.sync", refuse)
            await foreign(own, "crm.leads.create.medium", "copied", {"CC": ["crm.contacts.sync.medium"]})
            await handled.acquire()
            await handled.acquire()

    asyncio.run(make())
    dead = {"crm.leads.create.dlq": 1, "crm.contacts.sync.dlq": 1}
    assert asyncio.run(own.application.comes_to_hold(dead)) == dead
    assert own.json("redrive", "--module", "crm", "--json")["moved"] == 2
    back = {"crm.leads.create": 1, "crm.contacts.sync": 1}
    assert asyncio.run(own.application.comes_to_hold(back)) == back
    assert all("CC" not in message.headers for message in asyncio.run(taken(own, tuple(back))))


def test_redrive_returns_a_dead_cc_copy_to_one_action(own: Own) -> None:
    copies = {"CC": ["crm.contacts.sync.medium"]}
    asyncio.run(foreign(own, "crm.leads.create.medium", "copied", copies, expiration="50"))
    dead = {"crm.leads.create.dlq": 1, "crm.contacts.sync.dlq": 1}
    assert asyncio.run(own.application.comes_to_hold(dead)) == dead
    assert own.json("redrive", "--module", "crm", "--json")["moved"] == 2
    back = {"crm.leads.create": 1, "crm.contacts.sync": 1}
    assert asyncio.run(own.application.comes_to_hold(back)) == back


def test_a_killed_redrive_loses_nothing_and_two_concurrent_ones_finish_it(own: Own) -> None:
    total = 600
    asyncio.run(sent(own, total, expiration=0.05))
    dead = {"crm.leads.create.dlq": total}
    assert asyncio.run(own.application.comes_to_hold(dead, within_s=60)) == dead
    kills = asyncio.run(killed_while_moving(own)) + asyncio.run(killed_while_moving(own))
    assert kills, "every run ended before it could be killed"
    with own.start("redrive", "--json") as one, own.start("redrive", "--json") as other:
        said = [process.communicate(timeout=120)[0] for process in (one, other)]
    assert (one.returncode, other.returncode) == (0, 0), said
    ids = asyncio.run(drained(own, "crm.leads.create"))
    assert set(ids) == {str(number) for number in range(total)}
    assert len(ids) - total <= 32 * kills
    assert asyncio.run(own.application.comes_to_hold({})) == {}


async def killed_while_moving(own: Own) -> bool:
    """Whether a redrive could be killed after it had put something back and before it was done."""
    async with own.application.admin.channel() as channel:
        queue = own.application.name("crm.leads.create")
        before = await ready(channel, queue)
        with own.start("redrive") as process:
            while process.poll() is None and await ready(channel, queue) <= before:
                await asyncio.sleep(0.002)
            running = process.poll() is None
            process.kill()
            return running


def test_refused_credentials_are_reported_without_the_password(own: Own, broker: LiveBroker) -> None:
    """A suspended tenant's vhost takes no connections."""
    limit = ("vhost-limits", own.application.vhost, "max-connections")
    broker.put(*limit, json={"value": 0})
    try:
        own.project.write("no_handlers.py", "async def handle(message): ...\nHANDLERS = {'crm.leads.create': handle}\n")
        worker = ("worker", "no_handlers:HANDLERS", "--plan", "basic")
        for arguments in (("send", "crm.leads.create", "{}"), ("redrive",), worker):
            result = own.run(*arguments)
            assert (result.returncode, result.stdout) == (3, ""), result.stderr
            assert "in: the tenant is suspended" in result.stderr
            assert "kryonix tenant list" in result.stderr
            assert own.application.account.password not in result.stderr
            assert len(result.stderr.splitlines()) == 1  # no log beside the error
    finally:
        broker.put(*limit, json={"value": 100})


def test_dead_letters_stay_when_the_target_queue_is_full(platform: Project) -> None:
    beta = owner(platform, "beta")

    async def make() -> int:
        app, key = beta.application, "crm.leads.create.medium"
        async with app.account.channel() as channel:
            for number in range(40):
                await publish(channel, app.name(), key, message_id=f"dead-{number}", expiration=0.05)
            await app.comes_to_hold({"crm.leads.create.dlq": 40}, within_s=30)
            outcomes: list[BaseException | None] = []
            while not any(isinstance(outcome, DeliveryError) for outcome in outcomes):
                assert len(outcomes) < 3000, "the queue was never full"
                sends = [publish(channel, app.name(), key) for _ in range(100)]
                outcomes += await asyncio.gather(*sends, return_exceptions=True)
            return sum(outcome is None for outcome in outcomes)

    try:
        confirmed = asyncio.run(make())
        result = beta.run("redrive")
        assert result.returncode == 1
        assert "its queue is full" in result.stderr
        held = {"crm.leads.create": confirmed, "crm.leads.create.dlq": 40}
        assert asyncio.run(beta.application.comes_to_hold(held)) == held
    finally:
        asyncio.run(beta.application.empty())


async def rejected(own: Own, id: str) -> None:
    """A message that a handler refused for good."""
    done = asyncio.Event()

    async def refuse(message: Message) -> None:
        done.set()
        raise Reject("not today")

    async with await MessagingClient.connect(own.env["KRYONIX_AMQP_URI"], application="test") as client:
        await client.crm.send("leads.create", {}, message_id=id)
        consumer = await client.crm.consume("leads.create", refuse)
        await asyncio.wait_for(done.wait(), 30)
        await consumer.stop()


async def taken(own: Own, routes: tuple[str, ...]) -> list[Any]:
    async with own.application.admin.channel() as channel:
        found = []
        for route in routes:
            found.append(await take(channel, own.application.name(route), within_s=20))
            await found[-1].ack()
        return found


async def drained(own: Own, route: str) -> list[str]:
    """The ids of all messages of a queue, which is empty then."""
    ids = []
    async with own.application.admin.channel() as channel:
        queue = await channel.get_queue(own.application.name(route), ensure=False)
        while (message := await queue.get(fail=False, no_ack=True)) is not None:
            ids.append(message.message_id or "")
    return ids
