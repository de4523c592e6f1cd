"""Every kind of broker object is known everywhere; a test names the missing kind."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pulumi
import pytest

from components.routing import Routing, RoutingArgs
from kryonix.engines.local.handlers.rabbitmq import provider
from kryonix.policy.tenants import READERS
from kryonix.review.differences import compare
from kryonix.topology.catalog import default_catalog
from kryonix.topology.expansion import Topology, expand
from kryonix.topology.objects import KINDS, ObjectKind
from kryonix.topology.tenants import Tenant

CATALOG = default_catalog()
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name.replace(" ", "-"))


@pytest.fixture(scope="module")
def topology() -> Topology:
    return expand(Tenant(id="acme", modules=tuple(CATALOG.modules), plan="enterprise"), CATALOG)


class Recorder(pulumi.runtime.Mocks):
    def __init__(self) -> None:
        self.types: set[str] = set()

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, object]]:
        self.types.add(args.typ)
        return args.name, dict(args.inputs)

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[str, object], None]:
        raise AssertionError(args.token)


@pytest.fixture(scope="module")
def made(topology: Topology) -> set[str]:
    """The resource types that the routing component registers."""
    recorder = Recorder()

    def run() -> None:
        vhost = pulumi.ComponentResource("test:Vhost", "vhost")
        Routing("acme", RoutingArgs(topology=topology, vhost="/cliente_acme", deleted_with=vhost))

    def isolated() -> None:
        asyncio.set_event_loop(asyncio.new_event_loop())
        pulumi.runtime.set_mocks(recorder, preview=False)
        pulumi.runtime.test(run)()  # type: ignore[no-untyped-call]  # Pulumi leaves it untyped

    with ThreadPoolExecutor(1) as pool:  # Pulumi's settings and loop are the thread's own
        pool.submit(isolated).result()
    return recorder.types


@each_kind
def test_the_expansion_makes_objects_of_every_kind(kind: ObjectKind, topology: Topology) -> None:
    assert kind in {found for found, _, _ in topology.objects()}, f"`expand` makes no {kind.name}"


@each_kind
def test_every_kind_has_a_resource_in_the_routing_component(kind: ObjectKind, made: set[str]) -> None:
    assert kind.resource_type in made, f"components/routing.py makes no {kind.name}"


@each_kind
def test_every_kind_has_a_reader_in_the_policy_pack(kind: ObjectKind) -> None:
    assert kind.resource_type in READERS, f"kryonix/policy/tenants.py reads no {kind.name}"


@each_kind
def test_every_kind_has_a_handler_in_the_local_engine(kind: ObjectKind) -> None:
    table = provider({"endpoint": "http://localhost:15672", "username": "guest", "password": "guest"})
    table.close()
    assert kind.resource_type in table.handlers, f"kryonix/engines/local/handlers has no {kind.name}"


def test_the_routing_component_makes_no_kind_without_a_row(made: set[str]) -> None:
    assert {type_ for type_ in made if type_.startswith("rabbitmq:")} == {k.resource_type for k in KINDS.values()}


def test_a_comparison_names_every_object_once(topology: Topology) -> None:
    objects = [(kind.name, name) for kind, name, _ in topology.objects()]
    added = [(change.kind, change.name) for change in compare("acme", None, topology) if change.kind in KINDS]
    assert added == objects
    assert len(set(objects)) == len(objects)
    assert sum(map(len, (topology.exchanges, topology.queues, topology.bindings, topology.policies))) == len(objects)
