"""Bundles of several subjects: one failure stops no other, and each outcome is recorded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from kryonix.backup import creation
from kryonix.backup.archive import Archive
from kryonix.backup.creation import Created, Creation, Subject
from kryonix.backup.errors import BundleExists
from kryonix.backup.store import BundleStore, StoredBundle
from kryonix.errors import InvalidChoice
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.registry.desired_states import DesiredState
from kryonix.registry.errors import RegistryUnavailable
from kryonix.registry.rows import Status, TenantRow
from kryonix.topology.cells import Cell, Cells
from tests.support.bundles import FACTS, keys

AT = datetime(2026, 5, 1, 2, tzinfo=UTC)
STATES = [
    DesiredState(cliente_id="own", modules=("crm",), plan="basic", cell="second"),
    DesiredState(cliente_id="elsewhere", modules=("crm",), plan="basic", cell="of-another-project"),
    DesiredState(cliente_id="gone", modules=("crm",), plan="basic", status="removed"),
]
STATUSES: dict[str, Status] = {
    "own": "ativo",
    "elsewhere": "ativo",
    "gone": "removido",
    "acme": "ativo",
    "lost": "ativo",
}
ROWS = [
    TenantRow(cliente_id=id, vhost=f"/cliente_{id}", modulos=("crm",), plano="basic", status=status)
    for id, status in STATUSES.items()
]
CELLS = Cells(
    cells={
        "main": Cell(platform="organization/kryonix/dev"),
        "second": Cell(platform="organization/kryonix/cell2"),
    }
)


class MemoryStore(BundleStore):
    """A store in memory."""

    def __init__(self) -> None:
        super().__init__("memory")
        self.files: dict[str, bytes] = {}

    def _create(self, name: str, data: bytes) -> None:
        if name in self.files:
            raise BundleExists(self.address_of(name))
        self.files[name] = data

    def get(self, name: str) -> bytes:
        return self.files[name]

    def list(self, prefix: str = "") -> Sequence[StoredBundle]:
        return [StoredBundle(name, len(data), AT) for name, data in self.files.items()]

    def delete(self, name: str) -> None:
        del self.files[name]


class World:
    """What is read, by which broker, and what is recorded."""

    def __init__(self) -> None:
        self.failures: dict[str, Exception] = {}
        self.read: dict[str, str] = {}
        self.recorded: list[tuple[str, Any]] = []

    def read_tenant(self, broker: Any, dsn: str, engine: Any, id: str) -> Any:
        self.read[id] = broker.stack
        if id in self.failures:
            raise self.failures[id]
        return SimpleNamespace(members=lambda: {"rows.json": b"{}"}), FACTS

    @contextmanager
    def connect(self, dsn: str) -> Iterator[None]:
        if dsn == "away":
            raise RegistryUnavailable("registry away")
        yield None

    def note(self, connection: Any, key: Any, **values: Any) -> None:
        self.recorded.append((key.subject, values.get("error", values.get("bytes"))))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    brokers = {stack: SimpleNamespace(stack=stack, vhosts=list) for stack in ("dev", "cell2")}
    brokers["dev"].vhosts = lambda: [SimpleNamespace(name="/"), SimpleNamespace(name="/cliente_acme")]
    for name, value in {
        "read_tenant": made.read_tenant,
        "read_platform": made.read_tenant,
        "connect": made.connect,
        "fetch_desired_states": lambda connection: STATES,
        "fetch_configurations": lambda connection: ROWS,
        "record_created": made.note,
        "record_failed": made.note,
    }.items():
        monkeypatch.setattr(creation, name, value)
    monkeypatch.setattr("kryonix.backup.creation.Broker.of", lambda outputs: brokers[outputs["stack"]])
    return made


def of(store: BundleStore) -> Creation:
    engine: Any = SimpleNamespace(outputs=lambda spec: {"stack": spec.name})
    return Creation(
        stack="dev",
        registry_dsn="dsn",
        engine=engine,
        cells=CELLS,
        archive=Archive(store, "dev"),
        recipients=keys()[0],
    )


def test_the_platform_and_every_tenant_that_is_not_removed_are_subjects(world: World) -> None:
    names = [str(subject.id) for subject in of(MemoryStore()).subjects()]
    assert names == ["dev", "acme", "lost", "own"]


def test_each_tenant_is_read_from_the_broker_of_its_cell(world: World) -> None:
    made = of(MemoryStore())
    made.create_all(made.subjects(), AT, lambda done: None)
    assert world.read == {"dev": "dev", "acme": "dev", "lost": "dev", "own": "cell2"}


def test_a_failure_stops_no_other_and_is_recorded(world: World) -> None:
    world.failures = {"acme": BrokerUnavailable("the broker is away"), "own": RuntimeError("a fault")}
    store = MemoryStore()
    made = of(store)
    done: list[Created] = []
    results = {each.name.subject: each for each in made.create_all(made.subjects(), AT, done.append)}
    assert len(done) == 4
    assert sorted(store.files) == [
        "dev/platform/20260501T020000Z.tar.zst.age",
        "dev/tenants/lost/20260501T020000Z.tar.zst.age",
    ]
    assert str(results["acme"].error) == "the broker is away"
    assert str(results["own"].error) == "RuntimeError: a fault"
    size = len(store.files["dev/tenants/lost/20260501T020000Z.tar.zst.age"])
    assert set(world.recorded) >= {("acme", "the broker is away"), ("own", "RuntimeError: a fault"), ("lost", size)}


def test_a_bundle_of_the_same_second_is_never_written_over(world: World) -> None:
    store = MemoryStore()
    first = of(store).create(Subject("tenant", "acme"), AT)
    written = dict(store.files)
    second = of(store).create(Subject("tenant", "acme"), AT)
    assert first.error is None
    assert isinstance(second.error, BundleExists)
    assert store.files == written
    assert len(world.recorded) == 1


def test_a_bundle_counts_even_if_the_registry_can_not_record_it(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = of(MemoryStore())
    made.subjects()
    monkeypatch.setattr(creation, "connect", lambda dsn: world.connect("away"))
    assert made.create(Subject("tenant", "acme"), AT).error is None
    assert "dev/tenants/acme/20260501T020000Z.tar.zst.age is not recorded: registry away" in caplog.text


def test_an_unknown_tenant_is_refused_with_the_nearest(world: World) -> None:
    with pytest.raises(InvalidChoice, match=r"there is no tenant 'acne' .*; did you mean 'acme'\?"):
        of(MemoryStore()).tenant("acne")
