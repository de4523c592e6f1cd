"""Bring a platform back: the state of its stack, its services, the rows of its registry, its objects on the broker.

Only what is missing is added: no row and no object that is there is changed. So a repetition after an interruption at
any point, `kill -9` included, goes on where the first run ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

from kryonix.backup.errors import BackupError, Incomplete
from kryonix.backup.platform_objects import Objects, left_out, missing, own_objects
from kryonix.backup.platform_reading import RegistryRows, read_rows, whole_registry_dsn
from kryonix.backup.platform_snapshot import PlatformSnapshot
from kryonix.backup.reading import state_of
from kryonix.engines.containers import with_live_ids
from kryonix.engines.engine import Engine, StackSpec, ignore
from kryonix.engines.errors import Refused
from kryonix.engines.events import OnEvent
from kryonix.errors import InvalidChoice, KryonixError
from kryonix.rabbitmq.broker import Broker
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.registry.connection import SCHEMA, SIGNUP_SCHEMA, connect
from kryonix.registry.errors import RegistryError
from kryonix.registry.tables import Row, Rows, Table, add_missing, fetch_tables

OnStep = Callable[[str, float], object]
"""Gets what was done, and its seconds."""

_TENANTS: Final = (f"{SCHEMA}.desired_states", f"{SCHEMA}.rabbitmq_configurations")
_ROUTING: Final = frozenset({f"{SCHEMA}.routing_models", f"{SCHEMA}.routing_modes"})
_OPERATIONS: Final = f"{SIGNUP_SCHEMA}.operations"
_INTERRUPTED: Final = {
    "type": "urn:kryonix:problem:restored",
    "title": "Interrupted by a restore",
    "status": 503,
    "detail": "The platform was restored from a backup that was made during this operation, so its end is unknown. "
    "Look at the tenant, and send the request again with another idempotency key if it is still wanted",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformPlan:
    """What a restore would do. Rows and objects are counted by table and by kind."""

    snapshot: PlatformSnapshot = field(repr=False)
    state: Literal["kept", "restored"]
    services: Literal["running", "lost", "unknown"]
    """Whether broker and registry answer; unknown before the state is back. Lost ones are made again, then filled."""
    rows: Mapping[str, int]
    """Rows to add."""
    others: list[str]
    """Tenants in the registry that the bundle does not have. They stay."""
    objects: Mapping[str, list[str]]
    """Names of the objects to declare on the broker."""
    unfinished: int
    """Operations of the signup service that end as failed, because nobody knows how they ended."""
    left_out: list[str]
    """Administrators and parameters with a login, such as shovels, that the broker lacks: declare them by hand.

    Those of a lost broker include what the stack makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformRestored:
    """What a restore did: rows by table and objects by kind that were added, and its seconds."""

    rows: Mapping[str, int]
    objects: Mapping[str, int]
    seconds: float
    left_out: list[str]
    """As in the plan, without what the stack has made."""


class PlatformRestore:
    """Restores the platform of a stack, with an engine that has the project and may write the stack's state."""

    def __init__(self, engine: Engine, stack: str) -> None:
        self.engine = engine
        self._stack = stack
        self._spec = StackSpec(name=stack)

    def plan(self, snapshot: PlatformSnapshot) -> PlatformPlan:
        """Return what `run` would do. Changes nothing. Raises InvalidChoice for another platform's bundle."""
        if snapshot.stack != self._stack.rpartition("/")[2]:
            remedy = "A platform is restored as itself: its state and its tenants' name the stack"
            raise InvalidChoice(f"the bundle is of the platform {snapshot.stack!r}, not of {self._stack!r}. {remedy}")
        state = state_of(self.engine, self._stack)
        if state is None and snapshot.state is None:
            remedy = "Give a bundle that `kryonix backup create --platform` made where the state is"
            raise BackupError(f"the state of stack {self._stack!r} is lost, and the bundle does not hold it. {remedy}")
        live = None if state is None else self._live()
        registry, objects = live or (None, own_objects({}))
        lacking, lost = lacking_rows(snapshot.rows, registry), missing(snapshot.objects, objects)
        return PlatformPlan(
            snapshot=snapshot,
            state="restored" if state is None else "kept",
            services="unknown" if state is None else "lost" if live is None else "running",
            rows={name: len(found) for name, found in lacking.items()},
            others=_others(snapshot.rows, registry.rows) if registry else [],
            objects={kind: list(found) for kind, found in lost.items()},
            unfinished=sum(not row["ended_at"] for row in lacking.get(_OPERATIONS, ())),
            left_out=left_out(snapshot.objects, objects),
        )

    def run(
        self, plan: PlatformPlan, on_event: OnEvent = ignore, on_step: OnStep = lambda what, seconds: None
    ) -> PlatformRestored:
        """Restore what the plan shows. Raises BackupError if the registry has tenants that the plan does not show."""
        began, snapshot = time.monotonic(), plan.snapshot
        if snapshot.state is not None and state_of(self.engine, self._stack) is None:
            with _timed("state", on_step):
                self.engine.restore(self._spec, dict(snapshot.state))
                self.engine.rewrite(self._spec, with_live_ids)
        with _timed("services", on_step):
            self.bring_up(on_event)
        outputs = self.engine.outputs(self._spec)
        with _timed("rows", on_step):
            rows = self._add_rows(plan, str(outputs["registry_dsn"]), outputs.get("tenants") or {})
        with _timed("objects", on_step), Broker.of(outputs) as broker:
            objects = _declare(broker, snapshot.objects)
            by_hand = left_out(snapshot.objects, own_objects(broker.get("definitions")))
        return PlatformRestored(rows=rows, objects=objects, seconds=time.monotonic() - began, left_out=by_hand)

    def bring_up(self, on_event: OnEvent = ignore) -> None:
        """Let the stack make what is lost.

        A refresh notes what is gone. With the services gone it can't see what was in them, so `up` makes them, empty,
        and the next refresh finds the rest missing. An `up` after such a refresh may fail at what was not noted.
        """
        for last in (False, False, True):
            noted = self._refresh(on_event)
            try:
                self.engine.up(self._spec, on_event)
            except KryonixError as error:
                if noted or last or error.exit_status == Refused.exit_status:
                    raise
            else:
                if noted:
                    return
        remedy = f"Run `kryonix refresh --stack {self._stack}`, mend what it names, and run this again"
        raise Incomplete(f"the resources of stack {self._stack!r} can't be read back. {remedy}")

    def _refresh(self, on_event: OnEvent) -> bool:
        """Return True if every resource could be read."""
        try:
            self.engine.refresh(self._spec, on_event)
        except KryonixError as error:
            if error.exit_status == Refused.exit_status:
                raise
            return False
        return True

    def _live(self) -> tuple[RegistryRows, Objects] | None:
        """Return the registry's rows and the broker's own objects; None if a service is lost, or does not have them."""
        try:
            outputs = self.engine.outputs(self._spec)
            with Broker.of(outputs) as broker:
                objects = own_objects(broker.get("definitions"))
            registry = read_rows(whole_registry_dsn(self.engine, self._stack, str(outputs["registry_dsn"])))
        except (BrokerUnavailable, RegistryError):
            return None
        return registry, objects

    def _add_rows(self, plan: PlatformPlan, registry_dsn: str, listed: Mapping[str, Any]) -> dict[str, int]:
        """Add the rows that the registry lacks, in one transaction."""
        dsn = whole_registry_dsn(self.engine, self._stack, registry_dsn)
        now = read_rows(dsn).rows
        if more := set(_others(plan.snapshot.rows, now)) - {*plan.others, *listed}:
            problem = f"the registry has tenants that the bundle does not have: {', '.join(sorted(more))}"
            raise BackupError(f"{problem}. They were not shown, so no row was added. Run this again: they stay")
        ended, was = datetime.now(UTC), _without_removed(plan.snapshot.rows, now)
        with connect(dsn) as connection:
            tables = fetch_tables(connection)
            if unknown := plan.snapshot.rows.keys() - tables.keys():
                remedy = "Restore it with the version of kryonix that made it"
                raise Incomplete(f"the registry has no table {min(unknown)}, of which the bundle has rows. {remedy}")
            rows = {name: [_row(name, row, ended) for row in was.get(name, ())] for name in tables}
            return {name: count for name in tables if (count := add_missing(connection, tables[name], rows[name]))}


@contextmanager
def _timed(what: str, on_step: OnStep) -> Iterator[None]:
    began = time.monotonic()
    yield
    on_step(what, time.monotonic() - began)


def _row(table: str, row: Row, ended: datetime) -> Row:
    """Return a row as it is restored: an operation whose end is unknown has failed, so that it runs no second time."""
    if table != _OPERATIONS or row["ended_at"]:
        return row
    return row | {"status": "failed", "problem": _INTERRUPTED, "ended_at": ended.isoformat(), "sealed": None}


def lacking_rows(was: Rows, registry: RegistryRows | None) -> Rows:
    """Return the rows of each table that are not there, whatever has become of their other fields."""
    if registry is None:
        return {name: rows for name, rows in was.items() if rows}
    found: Rows = {}
    for name, rows in _without_removed(was, registry.rows).items():
        table = registry.tables.get(name)
        there = {_key(table, row) for row in registry.rows.get(name, ())}
        if lacking := [row for row in rows if _key(table, row) not in there]:
            found[name] = lacking
    return found


def _without_removed(was: Rows, now: Rows) -> Rows:
    """Return the rows without routing of tenants that were removed since: a new tenant of that id begins anew."""
    gone = {row["cliente_id"] for row in now.get(_TENANTS[1], ()) if row["status"] == "removido"}
    return {
        name: [row for row in rows if row["cliente_id"] not in gone] if name in _ROUTING else rows
        for name, rows in was.items()
    }


def _key(table: Table | None, row: Row) -> str:
    """Return what tells a row from others. History may have come back under other numbers."""
    if table is None:
        return ""
    columns = table.key if table.identity is None else sorted({*table.columns} - {table.identity})
    return repr([row.get(column) for column in columns])


def _others(was: Rows, now: Rows) -> list[str]:
    """Return the tenants that only `now` has."""
    known, found = ({row["cliente_id"] for name in _TENANTS for row in rows.get(name, ())} for rows in (was, now))
    return sorted(found - known)


def _declare(broker: Broker, wanted: Objects) -> dict[str, int]:
    """Declare the objects that the broker lacks, and count what came. Raises Incomplete."""
    lacking = missing(wanted, own_objects(broker.get("definitions")))
    if not lacking:
        return {}
    broker.call("POST", "definitions", json={kind: list(found.values()) for kind, found in lacking.items()})
    still = missing(wanted, own_objects(broker.get("definitions")))
    if still:
        names = [f"{kind} {name}" for kind, found in still.items() for name in found]
        remedy = "Run again once all nodes of the broker run"
        raise Incomplete(f"the broker took the platform's objects, but {len(names)} did not come: {names[0]}. {remedy}")
    return {kind: len(found) for kind, found in lacking.items()}
