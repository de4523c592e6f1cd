"""What the fleet's commands work with: the registry, the cells, and what runs stacks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from kryonix.engines.deployer import Deployer, deployer_for
from kryonix.engines.engine import Choice
from kryonix.engines.spec import StackSpec
from kryonix.errors import InvalidChoice
from kryonix.fleet.cell_use import VhostUse, read_cell
from kryonix.fleet.members import cell_loads
from kryonix.fleet.placement import Load
from kryonix.rabbitmq.broker import BrokerUnavailable
from kryonix.registry.desired_states import DesiredState, fetch_desired_states
from kryonix.registry.rows import connect
from kryonix.topology.catalog import Catalog, default_catalog
from kryonix.topology.cells import CELLS_FILE, Cells, parse_cells, single_cell

__all__ = ["CellsUse", "Site", "load_cells", "open_site", "project_folder"]


@dataclass(frozen=True, slots=True)
class CellsUse:
    """What each cell's broker carries by vhost, None where it does not answer, and why it does not."""

    uses: dict[str, dict[str, VhostUse] | None]
    problems: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One fleet, as this project's folder and a platform's stack say it."""

    registry_dsn: str = field(repr=False)
    cells: Cells
    deployer: Deployer
    catalog: Catalog

    def states(self, cell: str | None = None) -> list[DesiredState]:
        """Every tenant's desired state, or those of one cell. Raises InvalidInput for a cell that there is not."""
        if cell is not None:
            self.cells.cell(cell)
        with connect(self.registry_dsn) as connection:
            return fetch_desired_states(connection, cell=cell)

    def read_cells(self) -> CellsUse:
        """Ask every cell's broker."""
        uses: dict[str, dict[str, VhostUse] | None] = {}
        problems: dict[str, str] = {}
        for name, cell in self.cells.cells.items():
            try:
                uses[name] = read_cell(name, self.deployer.outputs(StackSpec(name=cell.stack)))
            except BrokerUnavailable as error:
                uses[name], problems[name] = None, str(error)
        return CellsUse(uses, problems)

    def loads(self, states: list[DesiredState], found: CellsUse) -> dict[str, Load]:
        """What each cell carries."""
        return cell_loads(states, found.uses, found.problems, self.catalog)


def open_site(stack: str, engine: Choice, concurrency: int = 4) -> Site:
    """The fleet of this folder. Raises InvalidChoice where it is no project, or nothing is deployed."""
    project = project_folder()
    cells = load_cells(project, stack)
    deployer = deployer_for(engine, project, concurrency=concurrency)
    dsn = deployer.outputs(StackSpec(name=stack)).get("registry_dsn")
    if not dsn:
        remedy = f"Run `kryonix up --stack {stack}`, or name the platform's stack with --stack"
        raise InvalidChoice(f"the stack {stack!r} has no registry among its outputs: nothing is deployed. {remedy}")
    return Site(registry_dsn=str(dsn), cells=cells, deployer=deployer, catalog=default_catalog())


def project_folder() -> Path:
    """Return the folder of this project. Raises InvalidChoice where it is no project."""
    project = Path.cwd()
    if not (project / "Pulumi.yaml").is_file():
        raise InvalidChoice(f"{project} has no Pulumi.yaml. Run this in the project's folder")
    return project


def load_cells(project: Path, stack: str) -> Cells:
    """The cells of a project: those of its cells.yaml, or the one of the stack."""
    file = project / CELLS_FILE
    return parse_cells(file.read_bytes(), CELLS_FILE) if file.is_file() else single_cell(stack)
