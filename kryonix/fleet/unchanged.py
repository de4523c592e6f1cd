"""Tenants for whom a rollout would change nothing: their stacks were last applied from what is there now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from kryonix.engines.engine import Engine, StackSpec
from kryonix.fleet.rollout import ROLLED_OUT
from kryonix.rabbitmq.broker import Broker
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.registry.connection import connect
from kryonix.registry.desired_states import DesiredState, fetch_applied_digests, forget_applied, renew_applied
from kryonix.registry.rows import fetch_tenants
from kryonix.tenants.digests import Digests
from kryonix.tenants.specs import users_of, vhost_of
from kryonix.topology.catalog import Catalog
from kryonix.topology.cells import Cells
from kryonix.topology.naming import Names

_LISTS: Final = ("vhosts", "users")


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What an unchanged stack was applied from: the digests of all of it and of its source, and its state's mark."""

    digest: str
    source: str
    mark: str


class Unchanged:
    """The unchanged tenants of a fleet, by digests in the registry.

    No stack is run, and no vhost looked into. But a tenant whose vhost or users are gone, as its broker has lost its
    data, is not unchanged; nor one with a note of a deletion that was cut off, nor those of a broker without an answer.
    """

    def __init__(self, registry_dsn: str, engine: Engine, cells: Cells, catalog: Catalog) -> None:
        self._dsn = registry_dsn
        self._engine = engine
        self._cells = cells
        self._digests = Digests(engine, cells, catalog)

    def find(self, states: Iterable[DesiredState]) -> dict[str, Applied]:
        """Return those that are unchanged, by id. Raises RegistryError and what the engine raises."""
        with connect(self._dsn) as connection:
            applied = fetch_applied_digests(connection)
            rows = {row.cliente_id: row for row in fetch_tenants(connection)} if applied else {}
        asked = [
            state
            for state in states
            if state.cliente_id in applied
            and state.converged
            and state.status in ROLLED_OUT
            and state.cell in self._cells.cells
        ]
        if not asked:
            return {}
        sources = self._digests.sources(asked)
        marks = self._engine.marks([Names(state.cliente_id).stack for state in asked])
        found = {}
        for state in asked:
            id = state.cliente_id
            source, mark = sources[id], marks.get(Names(id).stack, "")
            if mark and self._digests.digest(source, mark, rows.get(id)) == applied[id]:
                found[id] = Applied(digest=applied[id], source=source, mark=mark)
        present = self._present(state for state in asked if state.cliente_id in found)
        return {state.cliente_id: found[state.cliente_id] for state in present}

    def renew(self, state: DesiredState, applied: Applied) -> None:
        """Keep a tenant unchanged whose stack was found to match: to read it may have written its state again."""
        mark = self._digests.mark(state.cliente_id)
        if mark in ("", applied.mark) or self._digests.source(state) != applied.source:
            return
        with connect(self._dsn) as connection:
            row = next(iter(fetch_tenants(connection, state.cliente_id)), None)
            digest = self._digests.digest(applied.source, mark, row)
            renew_applied(connection, state.cliente_id, applied.digest, digest)

    def forget(self, tenant_id: str) -> None:
        """Note that the stack of a tenant differs from its row or its broker: the next rollout applies it."""
        with connect(self._dsn) as connection:
            forget_applied(connection, tenant_id)

    def _present(self, states: Iterable[DesiredState]) -> Iterator[DesiredState]:
        """Yield the tenants whose vhost and users the broker of their cell has, without a note on either."""
        by_cell: dict[str, list[DesiredState]] = defaultdict(list)
        for state in states:
            by_cell[state.cell].append(state)
        for cell, there in by_cell.items():
            outputs = self._engine.outputs(StackSpec(name=self._cells.cell(cell).stack))
            try:
                broker = Broker.of(outputs)
                vhosts, users = ({entry["name"] for entry in broker.get(kind, columns="name")} for kind in _LISTS)
                notes = tuple(broker.notes("kryonix-"))
            except BrokerUnavailable:
                continue
            for state in there:
                own = (vhost_of(state), Names(state.cliente_id).stack)  # the last part of a note's name
                cut_off = any(note.endswith(own) for note in notes)
                if vhost_of(state) in vhosts and users.issuperset(users_of(state)) and not cut_off:
                    yield state
