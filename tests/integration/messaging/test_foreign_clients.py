"""Clients that people use beside the SDK, with their defaults: each one's messages are handled, and it reads ours."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, ClassVar

import kombu
import pika
import pytest

from kryonix.messaging import MessagingClient
from kryonix.topology.naming import Names
from tests.integration.messaging.conftest import catalog_of
from tests.support.project import ROOT
from tests.support.recording_handler import Seen

pytestmark = pytest.mark.anyio

NAMES = Names("sdk")
DATA = {"lead": "João ✓", "total": 1.5}
_WAIT_S = 60


class Kombu:
    """Celery's client."""

    @staticmethod
    def publish(uri: str, key: str) -> None:
        with kombu.Connection(uri) as connection, connection.channel() as channel:
            producer = kombu.Producer(channel)
            producer.publish(DATA, exchange=NAMES.exchange, routing_key=key)
            producer.publish(DATA, exchange=NAMES.exchange, routing_key=key, compression="gzip")
            owner = {"owner": "joão".encode("latin-1")}
            producer.publish(DATA, exchange=NAMES.exchange, routing_key=key, headers=owner)

    @staticmethod
    def take(uri: str, queue: str) -> Any:
        taken: list[Any] = []

        def keep(body: Any, message: Any) -> None:
            taken.append(body)
            message.ack()

        queues = [kombu.Queue(queue, no_declare=True)]
        with kombu.Connection(uri) as connection, connection.Consumer(queues, callbacks=[keep]):
            connection.drain_events(timeout=_WAIT_S)
        return taken[0]


class Pika:
    @staticmethod
    def publish(uri: str, key: str) -> None:
        connection = pika.BlockingConnection(pika.URLParameters(uri))
        channel = connection.channel()
        for properties in (None, pika.BasicProperties(), pika.BasicProperties(content_type="application/json")):
            channel.basic_publish(NAMES.exchange, key, json.dumps(DATA), properties)
        connection.close()

    @staticmethod
    def take(uri: str, queue: str) -> Any:
        connection = pika.BlockingConnection(pika.URLParameters(uri))
        channel = connection.channel()
        try:
            for _, _, body in channel.consume(queue, auto_ack=True, inactivity_timeout=_WAIT_S):
                return None if body is None else json.loads(body)
        finally:
            connection.close()


class Amqplib:
    """Node's client, in the version of package-lock.json."""

    folder: ClassVar[Path]

    @classmethod
    def run(cls, *arguments: str) -> str:
        return _run("node", "amqplib.mjs", *arguments, folder=cls.folder)

    @classmethod
    def publish(cls, uri: str, key: str) -> None:
        cls.run("publish", uri, NAMES.exchange, key, json.dumps(DATA))

    @classmethod
    def take(cls, uri: str, queue: str) -> Any:
        return json.loads(cls.run("take", uri, queue))


def _run(*command: str, folder: Path) -> str:
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def amqplib(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Install amqplib."""
    Amqplib.folder = tmp_path_factory.mktemp("amqplib") / "node"
    shutil.copytree(ROOT / "tests" / "fixtures" / "amqplib", Amqplib.folder)
    _run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", folder=Amqplib.folder)


@pytest.mark.parametrize("other", [Kombu, Pika, Amqplib])
@pytest.mark.usefixtures("amqplib")
async def test_another_client_and_the_sdk_read_each_other(
    other: Any, emptied: dict[str, tuple[str, str]], anyio_backend: str
) -> None:
    uri, seen = emptied["sdk"][0], Seen()
    async with await MessagingClient.connect(uri, application="other", catalog=catalog_of("sdk")) as client:
        consumer = await client.crm.consume("leads.create", seen)
        await asyncio.to_thread(other.publish, uri, NAMES.routing_key("crm", "leads.create", "medium"))
        await seen.wait(3, _WAIT_S)
        await client.crm.send("contacts.sync", DATA, headers={"é": ["x", 1.5, None, {"y": 2**40}]})
        taken = await asyncio.to_thread(other.take, uri, NAMES.queue("crm", "contacts.sync"))
    assert [message.data for message in seen.messages] == [DATA] * 3
    assert (consumer.handled, consumer.undecodable) == (3, 0)
    assert taken == DATA
