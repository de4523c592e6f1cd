"""Which cell a new tenant goes to: the one that is fullest the least with it. Pure, so that the same question has the
same answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kryonix.engines.errors import NoRoom
from kryonix.topology.capacity import use
from kryonix.topology.catalog import Catalog, size_text
from kryonix.topology.cells import Cell, Cells
from kryonix.topology.expansion import expand
from kryonix.topology.tenants import Tenant

__all__ = ["Load", "Placement", "Share", "Verdict", "choose_cell", "load_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What tenants take of a cell: their queues, and the connections and bytes that they are allowed.

    `without_row` of the tenants have no desired state: they are of the platform's own list, or run by hand.
    `problem` says why a cell can't be used now; its other figures may then be too low.
    """

    tenants: int = 0
    queues: int = 0
    connections: int = 0
    bytes: int = 0
    without_row: int = 0
    problem: str | None = None

    def __add__(self, other: Load) -> Load:
        return Load(
            tenants=self.tenants + other.tenants,
            queues=self.queues + other.queues,
            connections=self.connections + other.connections,
            bytes=self.bytes + other.bytes,
            without_row=self.without_row + other.without_row,
            problem=self.problem or other.problem,
        )


@dataclass(frozen=True, slots=True)
class Share:
    """How much of one of a cell's bounds would be taken."""

    noun: str
    taken: int
    most: int

    @property
    def fits(self) -> bool:
        return self.taken <= self.most

    def __str__(self) -> str:
        return f"{self.shown(self.taken)} of {self.shown(self.most)} {self.noun}"

    def shown(self, amount: int) -> str:
        """An amount in the unit of the bound."""
        return size_text(amount) if self.noun == "bytes" else f"{amount:,}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a cell would be with the tenant in it. `refusal` is why it is not chosen, where it can't be."""

    cell: str
    shares: tuple[Share, ...]
    load: Load
    refusal: str | None

    @property
    def fullness(self) -> float:
        """The largest share, 1 for a full cell; 0 where nothing bounds it."""
        return max((share.taken / share.most for share in self.shares), default=0.0)

    def __str__(self) -> str:
        counts = ", ".join(map(str, self.shares)) or f"{self.load.queues:,} queues, and no bound"
        return f"{self.cell}: {counts}" + (f". {self.refusal}" if self.refusal else f" ({self.fullness:.0%} full)")


@dataclass(frozen=True, slots=True)
class Placement:
    """The cell that was chosen, and what was said of all of them, the best first."""

    cell: str
    verdicts: tuple[Verdict, ...]


def load_of(tenant: Tenant, catalog: Catalog) -> Load:
    """What one tenant takes. The plan's connections count though it is suspended: it may be resumed any time."""
    topology = expand(tenant, catalog)
    used = use(topology)
    return Load(tenants=1, queues=used.queues, connections=topology.limits.max_connections, bytes=used.bytes)


def choose_cell(wanted: Load, cells: Cells, loads: Mapping[str, Load]) -> Placement:
    """The open cell that has room and is fullest the least with the tenant in it; among equals the one with the fewest
    queues, then the first by name. Raises NoRoom, with what to add."""
    verdicts = [_judge(name, cell, loads.get(name, Load()) + wanted) for name, cell in cells.cells.items()]
    ordered = sorted(verdicts, key=lambda v: (v.refusal is not None, v.fullness, v.load.queues, v.cell))
    if ordered[0].refusal is not None:
        raise NoRoom(_explain(wanted, ordered, cells), [str(verdict) for verdict in ordered])
    return Placement(ordered[0].cell, tuple(ordered))


def _judge(name: str, cell: Cell, load: Load) -> Verdict:
    shares = tuple(_shares(cell, load))
    over = [f"{share.noun} by {share.shown(share.taken - share.most)}" for share in shares if not share.fits]
    if not cell.open:
        refusal: str | None = "It is closed to new tenants (`open: false`)"
    elif load.problem is not None:
        refusal = load.problem
    else:
        refusal = f"No room: {', '.join(over)} too many" if over else None
    return Verdict(name, shares, load, refusal)


def _shares(cell: Cell, load: Load) -> Iterator[Share]:
    for noun, most in (
        ("tenants", cell.max_tenants),
        ("queues", cell.max_queues),
        ("connections", cell.max_connections),
        ("bytes", cell.max_bytes),
    ):
        if most is not None:
            yield Share(noun, getattr(load, noun), most)


def _explain(wanted: Load, verdicts: list[Verdict], cells: Cells) -> str:
    said = "\n".join(f"  {verdict}" for verdict in verdicts)
    remedy = (
        "Add a platform's stack and a cell for it in cells.yaml"
        + (f" with room for at least {_sizes(wanted)}" if wanted.queues else "")
        + (f"; or {raised}" if (raised := _raised(verdicts, cells)) else "")
        + ". docs/scale.md says what one broker carries"
    )
    return f"no cell has room for {_sizes(wanted)}:\n{said}\n{remedy}"


def _sizes(load: Load) -> str:
    return f"{load.queues:,} queues, {load.connections:,} connections and {size_text(load.bytes)} of messages"


def _raised(verdicts: list[Verdict], cells: Cells) -> str | None:
    """The bound that would have to be raised least, for its size, and how far."""
    bounded = [v for v in verdicts if cells.cells[v.cell].open and v.load.problem is None]
    if not bounded:
        return None
    best = min(bounded, key=lambda verdict: (verdict.fullness, verdict.cell))
    bounds = " and ".join(f"max_{share.noun} to {_written(share)}" for share in best.shares if not share.fits)
    return f"raise {bounds} in the cell {best.cell!r}, if its broker carries that"


def _written(share: Share) -> str:
    """An amount as cells.yaml has it."""
    return size_text(share.taken) if share.noun == "bytes" else str(share.taken)
