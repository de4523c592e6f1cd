"""Digests of what tenants' stacks are applied from: equal ones mean that applying again would change nothing.

A digest covers the stack's whole config, which has all of the row that a run reads; the platform's outputs; catalog,
program and providers; the tenant's rows in the registry; and the state that the last run left. What it can't know is
what somebody has changed on the broker by hand: `kryonix fleet drift` looks for that, and clears the digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Final

from kryonix.engines.engine import Engine, StackSpec
from kryonix.engines.platform_file import ADVERTISED
from kryonix.registry.desired_states import DesiredState
from kryonix.registry.rows import TenantRow
from kryonix.tenants.specs import spec_for
from kryonix.topology.addresses import FURTHER_ACCESS, PLATFORM_ACCESS
from kryonix.topology.catalog import Catalog
from kryonix.topology.cells import Cells
from kryonix.topology.naming import Names

_READ: Final = (*PLATFORM_ACCESS, *FURTHER_ACCESS, "registry_dsn", ADVERTISED)
"""The platform's outputs that reach a tenant's stack, and the addresses that its applications get instead."""


class Digests:
    """Digests of tenants' stacks. No secret can be read from one: all are hashed together, random passwords among them.

    A digest has two parts: the source, which a run does not change, and what the run has made.
    """

    def __init__(self, engine: Engine, cells: Cells, catalog: Catalog, *, deletion_protection: bool = True) -> None:
        self._engine = engine
        self._cells = cells
        self._catalog = _hash(catalog.model_dump(mode="json"))
        self._deletion_protection = deletion_protection

    def source(self, state: DesiredState) -> str:
        """Return the digest of everything that the program would register a tenant's stack from."""
        return self.sources([state])[state.cliente_id]

    def sources(self, states: Iterable[DesiredState]) -> dict[str, str]:
        """Return the digests of several tenants by id. Each platform's outputs are read once."""
        program, platforms = self._engine.program_digest(), dict[str, str]()

        def platform(stack: str) -> str:
            if stack and stack not in platforms:
                found = self._engine.outputs(StackSpec(name=stack.rpartition("/")[2]))
                platforms[stack] = _hash({key: found.get(key) for key in _READ})
            return platforms.get(stack, "")

        def source(state: DesiredState) -> str:
            cell = self._cells.cell(state.cell)
            config = spec_for(state, self._cells, deletion_protection=self._deletion_protection).config
            return _hash([config, platform(cell.platform), platform(cell.registry), self._catalog, program])

        return {state.cliente_id: source(state) for state in states}

    def digest(self, source: str, mark: str, row: TenantRow | None) -> str:
        """Return the digest of an applied stack: its source, and what the run has made."""
        return f"{source}{self.made(mark, row)}"

    def made(self, mark: str, row: TenantRow | None) -> str:
        """Return the last part of a digest: that of the mark of the stack's state and of the tenant's registry rows."""
        kept = None if row is None else {**asdict(row), "notify": None}  # where alerts go is no part of the stack
        return _hash([mark, kept])

    def mark(self, tenant_id: str) -> str:
        """Return the mark of the state of a tenant's stack; empty if it has none."""
        name = Names(tenant_id).stack
        return self._engine.marks([name]).get(name, "")


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
