"""Several nodes: how clients spread, which node is tried next, and how a dead one is told from a silent one."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from aiormq.exceptions import ProbableAuthenticationError

from kryonix.messaging import AccessRefused, NotConnected
from kryonix.messaging.amqp import cluster
from kryonix.messaging.amqp.cluster import Cluster
from kryonix.messaging.configuration import Address, parse_uri
from tests.support.tls import CA, FAULTS, HOST, faulty, serving

pytestmark = pytest.mark.anyio

THREE = replace(
    parse_uri("amqp://kryonix_acme:s3cret@one:5672/%2Fcliente_acme"), others=(("two", 5672), ("three", 5672))
)


class Connection:
    """Knows its node, and whether it was closed."""

    def __init__(self, host: str) -> None:
        self.host, self.closed = host, asyncio.Event()

    async def close(self) -> None:
        self.closed.set()


def dialling(**answers: BaseException | float) -> Callable[[Address], Any]:
    """Return how nodes are dialled: one raises its error, or connects after its seconds; at once if not named."""

    async def dial(node: Address) -> Connection:
        answer = answers.get(node.host, 0.0)
        if isinstance(answer, BaseException):
            raise answer
        await asyncio.sleep(answer)
        return Connection(node.host)

    return dial


def at_home(host: str) -> Cluster:
    return next(made for made in iter(lambda: Cluster(THREE, None), None) if made.home.host == host)


@pytest.mark.parametrize("seed", range(5))
def test_ninety_clients_spread_evenly_over_three_nodes(seed: int) -> None:
    random.seed(seed)
    homes = Counter(Cluster(THREE, None).home.host for _ in range(90))
    assert all(20 <= homes[host] <= 40 for host in ("one", "two", "three")), homes


async def test_a_client_begins_at_home() -> None:
    node, _ = await at_home("two").connect(dialling())
    assert node.host == "two"


async def test_the_next_node_is_tried_at_once_where_one_refuses_connections() -> None:
    down = {host: ConnectionRefusedError("refused") for host in ("one", "three")}
    async with asyncio.timeout(0.9):  # the pause before the next node of a silent one is a second
        node, _ = await at_home("one").connect(dialling(**down))
    assert node.host == "two"


async def test_a_frozen_node_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_STAGGER_S", 0.05)
    async with asyncio.timeout(30):
        node, _ = await at_home("one").connect(dialling(one=3600.0, two=3600.0))
    assert node.host == "three"


async def test_the_node_just_lost_is_the_last_to_be_tried() -> None:
    made = at_home("one")
    tried = {(await made.connect(dialling(), lost=made.home))[0].host for _ in range(30)}
    assert tried == {"two", "three"}


async def test_the_node_just_lost_is_not_taken_for_being_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the others it answers, and can confirm nothing; they may still wait for its count of connections."""
    monkeypatch.setattr(cluster, "_STAGGER_S", 0.01)
    made = at_home("one")
    assert (await made.connect(dialling(two=0.2, three=0.2), lost=made.home))[0].host != "one"


async def test_the_node_just_lost_is_taken_where_the_others_stay_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_STAGGER_S", 0.01)
    monkeypatch.setattr(cluster, "_LOST_S", 0.1)
    made = at_home("one")
    async with asyncio.timeout(5):
        assert (await made.connect(dialling(two=3600.0, three=3600.0), lost=made.home))[0].host == "one"


async def test_a_connection_that_comes_second_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_STAGGER_S", 0.01)
    opened: list[Connection] = []

    async def dial(node: Address) -> Any:
        await asyncio.sleep(0.05)
        opened.append(Connection(node.host))
        return opened[-1]

    _, connection = await at_home("one").connect(dial)
    await asyncio.sleep(0.1)
    assert all(other.closed.is_set() for other in opened if other is not connection)
    assert not connection.closed.is_set()


async def test_every_node_that_was_tried_is_named_without_the_password() -> None:
    down = {host: ConnectionRefusedError("refused") for host in ("one", "two", "three")}
    with pytest.raises(NotConnected) as error:
        await at_home("one").connect(dialling(**down))
    assert all(f"no connection to amqp://{host}:5672/cliente_acme" in str(error.value) for host in down)
    assert "s3cret" not in str(error.value)


async def test_a_refusal_speaks_for_the_nodes_that_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_REFUSED_S", 0.1)
    refused = ProbableAuthenticationError("ACCESS_REFUSED")
    with pytest.raises(AccessRefused, match=r"refuses the connection .* did not answer in time"):
        async with asyncio.timeout(5):
            await at_home("one").connect(dialling(one=refused, two=3600.0, three=3600.0))


@pytest.mark.parametrize("says", [b"AMQP", b""])
async def test_a_node_is_alive_if_it_begins_to_answer(says: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_ALIVE_S", 2 if says else 0.2)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read(8) == b"AMQP\x00\x00\x09\x01"
        writer.write(says)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, HOST, 0) as server:
        node = replace(THREE, host=HOST, port=server.sockets[0].getsockname()[1])
        assert await Cluster(node, None).is_alive(node) is bool(says)


@pytest.mark.parametrize("fault", ["good", *FAULTS])
async def test_a_node_with_a_fault_of_tls_is_alive(fault: str) -> None:
    with serving(faulty(fault)) as port:
        node = replace(THREE, scheme="amqps", host=HOST, port=port, ca_certificate=CA.pem)
        assert await Cluster(node, node.trust()).is_alive(node)
