"""The keeper, with a real RabbitMQ and a real PostgreSQL that serve what it places."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event, Thread

import aio_pika
import psycopg
import pytest
from aio_pika.abc import AbstractConnection

from kryonix.certificates.authority import Authority
from kryonix.certificates.keeper import Keeper
from kryonix.certificates.leaf import Leaf
from kryonix.certificates.placement import CLIENTS, SERVER, TRUST, place, placed
from kryonix.certificates.places import read_keeper_file
from kryonix.certificates.reloading import reload_postgres
from kryonix.certificates.served import served
from kryonix.certificates.trust import context, why
from tests.support.tls_services import CLIENTS_CA, HOST, NAMES, PASSWORD, TlsServices, tls_services
from tests.support.waiting import eventually

BROKER_IMAGE = os.environ.get("KRYONIX_TEST_BROKER_IMAGE", "rabbitmq:4.3.6-management")
POSTGRES_IMAGE = os.environ.get("KRYONIX_TEST_POSTGRES_IMAGE", "postgres:17")
CA = Authority.create("Kryonix test CA 1")
SECOND = Authority.create("Kryonix test CA 2")
LISTENERS = ("amqps", "management", "metrics")


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Both services with their first certificates, and the keeper's file that gave them."""

    services: TlsServices
    file: Path

    def serials(self) -> set[int]:
        """Return what the broker's listeners serve, and assert that it is what is in their folder."""
        found = {served(HOST, self.services.ports[name]).serial for name in LISTENERS}
        assert found == {self.leaf("rabbitmq").serial}
        return found | {served(HOST, self.services.ports["postgres"], starttls="postgres").serial}

    def leaf(self, role: str) -> Leaf:
        found = placed(self.services.folder / role)
        assert found
        return found


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    folder = tmp_path_factory.mktemp("tls")
    folder.chmod(0o755)  # the services' users reach their folders
    with tls_services(folder, BROKER_IMAGE, POSTGRES_IMAGE) as services:
        file = services.keeper_file([CA], CA)
        assert {each.state for each in services.round(file)} == {"served"}
        with services.connect(folder / "postgres" / TRUST) as connection:
            connection.execute(f"CREATE ROLE keeper LOGIN PASSWORD '{PASSWORD}'")
            connection.execute("GRANT EXECUTE ON FUNCTION pg_reload_conf() TO keeper")
        yield Kept(services=services, file=file)


def test_what_is_placed_is_served_by_every_listener(kept: Kept) -> None:
    assert len(kept.serials()) == 2
    status = json.loads((kept.services.folder / "status.json").read_text())
    assert [(each["role"], each["state"]) for each in status["places"]] == [
        ("rabbitmq", "served"),
        ("postgres", "served"),
    ]
    assert all(set(each["names"]) == set(NAMES) for each in status["places"])
    assert "PRIVATE KEY" not in str(status)


def test_what_is_served_and_not_due_is_left_alone(kept: Kept) -> None:
    before = kept.serials()
    assert {each.state for each in kept.services.round(kept.file)} == {"served"}
    assert kept.serials() == before


def test_a_renewal_fails_no_send_and_ends_no_connection(kept: Kept) -> None:
    before, trust = kept.serials(), kept.services.folder / "postgres" / TRUST
    uri = f"amqps://admin:{PASSWORD}@{HOST}:{kept.services.ports['amqps']}/"

    async def send(connection: AbstractConnection, stop: asyncio.Event) -> int:
        """Publish with confirms over a connection that never connects again; return how many were confirmed."""
        channel = await connection.channel(publisher_confirms=True)
        queue = await channel.declare_queue(exclusive=True)
        sent = 0
        while not stop.is_set() or sent < 100:
            await channel.default_exchange.publish(aio_pika.Message(b"x"), queue.name)
            sent += 1
        return sent

    async def renew() -> int:
        async with await aio_pika.connect(uri, ssl_context=context(CA.certificate)) as connection:
            stop = asyncio.Event()
            sending = asyncio.create_task(send(connection, stop))
            statuses = await asyncio.to_thread(kept.services.round, kept.file, force=True)
            assert {each.state for each in statuses} == {"served"}
            stop.set()
            return await sending

    with kept.services.connect(trust) as connection:
        pid = connection.info.backend_pid
        assert asyncio.run(renew()) >= 100
        assert connection.execute("SELECT pg_backend_pid()").fetchone() == (pid,)
    assert not kept.serials() & before


def test_a_keeper_killed_at_any_step_leaves_nothing_to_repair(kept: Kept) -> None:
    command = [sys.executable, "-m", "tests.support.mortal_keeper", str(kept.file), str(kept.services.folder)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    *steps, outcome = ended.stdout.splitlines()
    assert json.loads(outcome)["wrong"] == []
    assert json.loads(outcome)["kills"] == len(steps) > 10
    for role in ("rabbitmq", "postgres"):  # it was killed before each of the renames
        assert any("os.rename" in step and f"{role}/.{SERVER}.new" in step for step in steps)
    kept.serials()
    assert {file.name for file in (kept.services.folder / "rabbitmq").iterdir()} == {SERVER, TRUST, CLIENTS}


def test_a_certificate_in_place_that_nobody_loaded_is_loaded(kept: Kept) -> None:
    for role in ("postgres", "rabbitmq"):
        file, owner = kept.services.folder / role / SERVER, (kept.services.folder / role).stat()
        new = file.with_name(f".{SERVER}.new")
        new.write_text(CA.issue_server(NAMES).pem)
        new.chmod(0o600)
        os.chown(new, owner.st_uid, owner.st_gid)
        os.utime(new, ns=(0, 0))  # older than the broker's last look
        new.replace(file)
    assert {each.state for each in kept.services.round(kept.file)} == {"served"}
    assert kept.leaf("postgres").serial in kept.serials()


@pytest.mark.parametrize("days", [-0.01, 0.0])
def test_an_expired_certificate_is_renewed_though_no_client_accepts_it(kept: Kept, days: float) -> None:
    for role in ("rabbitmq", "postgres"):
        place(kept.services.folder / role, CA.issue_server(NAMES, days=days), CA.certificate)
    reload_postgres(read_keeper_file(kept.file).registry_dsn or "")
    trust = kept.services.folder / "postgres" / TRUST

    def refused() -> str:
        try:
            kept.services.connect(trust).close()
        except psycopg.OperationalError as error:
            return why(error, HOST) or ""
        return ""

    assert eventually("PostgreSQL serves the expired one", refused).startswith("expired: ")
    assert {each.state for each in kept.services.round(kept.file)} == {"served"}
    kept.services.connect(trust).close()
    kept.serials()


def test_a_ca_is_changed_in_three_steps_without_a_client_that_fails(kept: Kept, tmp_path: Path) -> None:
    old, both = tmp_path / "old.pem", tmp_path / "both.pem"
    old.write_text(CA.certificate)
    both.write_text(CA.certificate + SECOND.certificate)
    new = tmp_path / "new.pem"
    new.write_text(SECOND.certificate)
    of_clients = {CA: CLIENTS_CA, SECOND: Authority.create("Kryonix test clients' CA 2")}
    steps = (([CA, SECOND], CA, (old, both)), ([CA, SECOND], SECOND, (both, new)), ([SECOND], SECOND, (both, new)))
    for trusted, issuing, clients in steps:
        others = [of_clients[each] for each in trusted]
        file = kept.services.keeper_file(trusted, issuing, others)
        assert {each.state for each in kept.services.round(file)} == {"served"}
        for trust in clients:
            kept.services.connect(trust).close()
        for name, wanted in ((TRUST, trusted), (CLIENTS, others)):
            content = (kept.services.folder / "rabbitmq" / name).read_text()
            assert content == "".join(each.certificate for each in wanted)
    file = kept.services.keeper_file([CA], CA)
    assert {each.state for each in kept.services.round(file)} == {"served"}
    assert kept.leaf("rabbitmq").issued_by(CA.certificate)


def test_your_own_certificate_is_picked_up_and_a_bad_one_is_not(kept: Kept, tmp_path: Path) -> None:
    own = Authority.create("A company's CA")

    def give(leaf: Leaf, key: str) -> int:
        (tmp_path / "fullchain.pem").write_text(leaf.chain)
        (tmp_path / "privkey.pem").write_text(key)
        return leaf.serial

    first, second, other = (own.issue_server([HOST]) for _ in range(3))
    serial = give(first, first.key)
    file = kept.services.keeper_file([CA, own], CA, source=str(tmp_path))
    stop, alive = Event(), tmp_path / "alive"
    keeper = Keeper(read_keeper_file(file), kept.services.folder)
    run = partial(keeper.run, stop, interval=0.2, patience=0.5, alive_file=alive)
    keeping = Thread(target=run)
    keeping.start()

    def rejected(problem: str) -> bool:
        places = json.loads((kept.services.folder / "status.json").read_text())["places"]
        return all(each["state"] == "rejected" and problem in each["problem"] for each in places)

    def are(wanted: int) -> bool:
        return kept.serials() == {wanted}

    try:
        eventually("the first is served", lambda: are(serial), ignoring=(AssertionError,))
        give(second, other.key)
        eventually("it is rejected", lambda: rejected("the key is not the certificate's"))
        assert kept.serials() == {serial}
        give(second, "")
        eventually("it is rejected", lambda: rejected("no private key"))
        strange = Authority.create("Nobody's CA").issue_server([HOST])
        give(strange, strange.key)
        eventually("it is rejected", lambda: rejected("not issued by a trusted CA, but by CN=Nobody's CA"))
        elsewhere = own.issue_server(["elsewhere.example"])
        give(elsewhere, elsewhere.key)
        eventually("it is rejected", lambda: rejected("issued for elsewhere.example, not for 127.0.0.1"))
        serial = give(second, second.key)
        eventually("the second is served", lambda: are(serial), ignoring=(AssertionError,))
        assert alive.exists()
    finally:
        stop.set()
        keeping.join()
        kept.services.round(kept.services.keeper_file([CA], CA))


def test_the_command_renews_all_and_tells_it(kept: Kept) -> None:
    before = kept.serials()
    folder = str(kept.services.folder)
    command = [sys.executable, "-m", "kryonix", "certificates", "keep", "--file", str(kept.file), "--folder", folder]
    ended = subprocess.run([*command, "--once", "--force", "--json"], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert {each["state"] for each in json.loads(ended.stdout)["places"]} == {"served"}
    assert not kept.serials() & before
    alive = kept.services.folder / "alive"
    running = subprocess.Popen([*command, "--alive-file", str(alive)], stderr=subprocess.PIPE, text=True)
    eventually("it is alive", alive.exists, process=running)
    running.send_signal(signal.SIGTERM)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 0
    assert "rabbitmq: served" in said
    assert "PRIVATE KEY" not in said + ended.stderr + ended.stdout
