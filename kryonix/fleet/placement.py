"""Placement of a new tenant: the cell whose most-used limit would be lowest. Pure and deterministic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kryonix.engines.errors import Refused
from kryonix.topology.capacity import use
from kryonix.topology.catalog import Catalog, size_text
from kryonix.topology.cells import Cell, Cells
from kryonix.topology.expansion import expand
from kryonix.topology.tenants import Tenant


class NoRoom(Refused):
    """No cell has room for a tenant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The load of a cell: its tenants' queues, and the connections and bytes their plans allow.

    `without_row` counts tenants without a desired state (from tenants.yaml, or run by hand). `problem` says why the
    cell can't be used now; its other figures may then be too low.
    """

    tenants: int = 0
    queues: int = 0
    connections: int = 0
    bytes: int = 0
    without_row: int = 0
    problem: str | None = None

    def __add__(self, other: Load) -> Load:
        figures = ("tenants", "queues", "connections", "bytes", "without_row")
        sums = {name: getattr(self, name) + getattr(other, name) for name in figures}
        return Load(**sums, problem=self.problem or other.problem)


@dataclass(frozen=True, slots=True)
class Share:
    """The share of one of a cell's limits that would be used."""

    noun: str
    taken: int
    most: int

    @property
    def fits(self) -> bool:
        return self.taken <= self.most

    def __str__(self) -> str:
        return f"{self.shown(self.taken)} of {self.shown(self.most)} {self.noun}"

    def shown(self, amount: int) -> str:
        """Format an amount in the limit's unit."""
        return size_text(amount) if self.noun == "bytes" else f"{amount:,}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A cell's load with the tenant in it. `refusal` says why the cell can't be chosen."""

    cell: str
    shares: tuple[Share, ...]
    load: Load
    refusal: str | None

    @property
    def fullness(self) -> float:
        """Return the largest share: 1 for a full cell, 0 without limits."""
        return max((share.taken / share.most for share in self.shares), default=0.0)

    def __str__(self) -> str:
        counts = ", ".join(map(str, self.shares)) or f"{self.load.queues:,} queues, no limits"
        return f"{self.cell}: {counts}" + (f". {self.refusal}" if self.refusal else f" ({self.fullness:.0%} full)")


@dataclass(frozen=True, slots=True)
class Placement:
    """The chosen cell, and the verdicts on all cells, best first."""

    cell: str
    verdicts: tuple[Verdict, ...]


def load_of(tenant: Tenant, catalog: Catalog) -> Load:
    """Return a tenant's load. A suspended tenant counts in full: it may be resumed at any time."""
    topology = expand(tenant, catalog)
    used = use(topology)
    return Load(tenants=1, queues=used.queues, connections=topology.limits.max_connections, bytes=used.bytes)


def choose_cell(wanted: Load, cells: Cells, loads: Mapping[str, Load]) -> Placement:
    """Choose the open cell with room whose most-used limit would be lowest with the tenant in it.

    Ties go to the cell with fewer queues, then to the first by name. Raises NoRoom, with what to add.
    """
    verdicts = [_judge(name, cell, loads.get(name, Load()) + wanted) for name, cell in cells.cells.items()]
    ordered = sorted(verdicts, key=lambda v: (v.refusal is not None, v.fullness, v.load.queues, v.cell))
    if ordered[0].refusal is not None:
        raise NoRoom(_explain(wanted, ordered, cells))
    return Placement(ordered[0].cell, tuple(ordered))


def _judge(name: str, cell: Cell, load: Load) -> Verdict:
    shares = tuple(
        Share(noun, getattr(load, noun), most)
        for noun in ("tenants", "queues", "connections", "bytes")
        if (most := getattr(cell, f"max_{noun}")) is not None
    )
    over = [f"{share.shown(share.taken - share.most)} {share.noun}" for share in shares if not share.fits]
    refusal = load.problem or (f"No room: {', '.join(over)} too many" if over else None)
    return Verdict(name, shares, load, refusal if cell.open else "Closed to new tenants (`open: false`)")


def _explain(wanted: Load, verdicts: list[Verdict], cells: Cells) -> str:
    """Return why no cell has room, and which limits to raise or what to add."""
    sizes = f"{wanted.queues:,} queues, {wanted.connections:,} connections and {size_text(wanted.bytes)} of messages"
    remedy = "Add a platform stack and its cell in cells.yaml"
    if wanted.queues:
        remedy += f" with room for at least {sizes}"
    bounded = [v for v in verdicts if cells.cells[v.cell].open and v.load.problem is None]
    if bounded:
        best = min(bounded, key=lambda verdict: (verdict.fullness, verdict.cell))
        limits = [
            f"max_{share.noun} to {size_text(share.taken) if share.noun == 'bytes' else share.taken}"
            for share in best.shares
            if not share.fits
        ]
        remedy += f"; or raise {' and '.join(limits)} in the cell {best.cell!r}, if its broker has the capacity"
    listed = "\n".join(f"  {verdict}" for verdict in verdicts)
    return f"no cell has room for {sizes}:\n{listed}\n{remedy}. See docs/scale.md for the capacity of one broker"
