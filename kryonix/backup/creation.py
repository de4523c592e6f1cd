"""Make bundles: of one tenant, of the platform, or of the platform and every tenant."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

from kryonix.backup.archive import Archive
from kryonix.backup.encryption import Recipients
from kryonix.backup.errors import BackupError, BundleExists
from kryonix.backup.names import BundleName
from kryonix.backup.platform_reading import read_platform
from kryonix.backup.platform_snapshot import PlatformSnapshot
from kryonix.backup.reading import read_tenant
from kryonix.backup.snapshot import TenantSnapshot
from kryonix.backup.store import StoredBundle
from kryonix.engines.engine import Engine, StackSpec
from kryonix.errors import InvalidChoice, KryonixError
from kryonix.rabbitmq.broker import Broker
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.registry.backups import BackupKind, record_created, record_failed
from kryonix.registry.connection import connect
from kryonix.registry.desired_states import fetch_desired_states
from kryonix.registry.errors import RegistryError
from kryonix.registry.rows import fetch_configurations
from kryonix.topology.cells import Cells
from kryonix.topology.errors import nearest, shown

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Subject:
    """What a bundle is of: a tenant, or the platform of a stack."""

    kind: BackupKind
    id: str

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """The outcome for one subject. `error` is why there is no bundle."""

    name: BundleName
    seconds: float
    stored: StoredBundle | None = None
    error: KryonixError | None = None


@dataclass(frozen=True, kw_only=True)
class Creation:
    """Reads the platform and the tenants of a stack, and writes their bundles."""

    stack: str
    registry_dsn: str = field(repr=False)
    engine: Engine
    cells: Cells
    archive: Archive
    recipients: Recipients
    _brokers: dict[str, Broker] = field(default_factory=dict, init=False, repr=False)

    def subjects(self) -> list[Subject]:
        """Return the platform, then every tenant in the registry that is not removed."""
        return [Subject("platform", self.stack), *(Subject("tenant", id) for id in sorted(self._stacks))]

    def tenant(self, id: str) -> Subject:
        """Return a tenant. Raises InvalidChoice if the registry has none of this id."""
        if id not in self._stacks:
            hint = f"; {nearest(id, sorted(self._stacks))}" if self._stacks else ""
            raise InvalidChoice(f"there is no tenant {shown(id)} on the platform of stack {self.stack!r}{hint}")
        return Subject("tenant", id)

    def broker(self, subject: Subject) -> Broker:
        """Return the broker of a tenant's cell, or of the platform."""
        return self._broker_of(self.stack if subject.kind == "platform" else self._stacks[subject.id])

    def create_all(
        self,
        subjects: Iterable[Subject],
        at: datetime,
        on_done: Callable[[Created], object],
        *,
        concurrency: int = 2,
    ) -> list[Created]:
        """Make the bundles of these subjects, several at a time. One failure does not stop the others."""
        made = []
        with ThreadPoolExecutor(concurrency, thread_name_prefix="backup") as pool:
            futures = [pool.submit(self.create, subject, at) for subject in subjects]
            try:
                for done in as_completed(futures):
                    made.append(done.result())
                    on_done(made[-1])
            finally:
                pool.shutdown(cancel_futures=True)
        return made

    def create(self, subject: Subject, at: datetime) -> Created:
        """Make one bundle, named after the moment `at` (UTC), and record the outcome in the registry."""
        started, began = datetime.now(UTC), time.monotonic()
        name = BundleName.of(self.stack, subject.kind, subject.id, at)
        stored = error = None
        try:
            stored = self._write(name)
        except KryonixError as failure:
            error = failure
        except Exception as failure:  # noqa: BLE001  a fault in one must not stop the others
            _log.exception("the backup %s failed", name)
            error = BackupError(f"{type(failure).__name__}: {failure}")
        made = Created(name=name, seconds=time.monotonic() - began, stored=stored, error=error)
        self._record(made, started)
        return made

    def _write(self, name: BundleName) -> StoredBundle:
        broker = self.broker(Subject(name.kind, name.subject))
        snapshot: PlatformSnapshot | TenantSnapshot
        if name.kind == "platform":
            snapshot, facts = read_platform(broker, self.registry_dsn, self.engine, self.stack)
        else:
            snapshot, facts = read_tenant(broker, self.registry_dsn, self.engine, name.subject)
        return self.archive.write(name.kind, name.subject, snapshot.members(), facts, name.at, self.recipients)

    def _broker_of(self, stack: str) -> Broker:
        if stack not in self._brokers:
            self._brokers[stack] = Broker.of(self.engine.outputs(StackSpec(name=stack)))
        return self._brokers[stack]

    @cached_property
    def _stacks(self) -> Mapping[str, str]:
        """Return the platform's stack of each tenant, without those of unknown cells.

        A tenant without a desired state is where its vhost is.
        """
        with connect(self.registry_dsn) as connection:
            states, rows = fetch_desired_states(connection), fetch_configurations(connection)
        cells, own = self.cells.cells, {s.cliente_id for s in states}
        found = {s.cliente_id: cells[s.cell].stack for s in states if s.status != "removed" and s.cell in cells}
        others = {row.vhost: row.cliente_id for row in rows if row.status != "removido" and row.cliente_id not in own}
        for cell in cells.values() if others else ():
            with suppress(BrokerUnavailable):  # its tenants fail later, each with the reason
                there = (vhost.name for vhost in self._broker_of(cell.stack).vhosts() if vhost.name in others)
                found |= {others[vhost]: cell.stack for vhost in there}
        return dict.fromkeys(others.values(), self.stack) | found

    def _record(self, made: Created, started: datetime) -> None:
        """Record the outcome. The bundle is good even if the registry does not answer by now."""
        if isinstance(made.error, BundleExists):
            return  # its maker records it
        name, address = made.name, self.archive.store.address_of(str(made.name))
        try:
            with connect(self.registry_dsn) as connection:
                if made.stored is not None:
                    record_created(connection, name.key, address=address, started_at=started, bytes=made.stored.bytes)
                else:
                    record_failed(connection, name.key, address=address, started_at=started, error=str(made.error))
        except RegistryError as error:
            _log.warning("the outcome of the backup %s is not recorded: %s", name, error)
