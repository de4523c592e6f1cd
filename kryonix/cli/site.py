"""The project in this folder: its stacks, its registry and its cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kryonix.cli.options import PlatformOptions, StackOptions
from kryonix.engines.containers import platform_of
from kryonix.engines.engine import Engine, StackSpec, engine_for
from kryonix.errors import InvalidChoice
from kryonix.fleet.cell_use import VhostUse, read_cell
from kryonix.fleet.members import cell_loads
from kryonix.fleet.placement import Load
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.registry.connection import connect
from kryonix.registry.desired_states import DesiredState, fetch_desired_states
from kryonix.tenants.lifecycle import TenantLifecycle
from kryonix.topology.catalog import Catalog, default_catalog
from kryonix.topology.cells import CELLS_FILE, Cells, parse_cells, single_cell


@dataclass(frozen=True, slots=True)
class CellUses:
    """Use of each cell's broker by vhost, None for a broker that does not answer, and the reason."""

    uses: dict[str, dict[str, VhostUse] | None]
    problems: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The registry, cells and stacks of a project."""

    registry_dsn: str = field(repr=False)
    cells: Cells
    engine: Engine
    catalog: Catalog

    def states(self, cell: str | None = None) -> list[DesiredState]:
        """Return the desired state of every tenant, or of one cell's. Raises InvalidInput for an unknown cell."""
        if cell is not None:
            self.cells.cell(cell)
        with connect(self.registry_dsn) as connection:
            return fetch_desired_states(connection, cell=cell)

    def lifecycle(self, **durations: Any) -> TenantLifecycle:
        """Return the operations on tenants; `durations` are `overlap` and `grace`."""
        return TenantLifecycle(self.registry_dsn, self.engine, self.cells, self.catalog, **durations)

    def read_cells(self) -> CellUses:
        """Read the use of every cell from its broker."""
        uses: dict[str, dict[str, VhostUse] | None] = {}
        problems: dict[str, str] = {}
        for name, cell in self.cells.cells.items():
            try:
                uses[name] = read_cell(name, self.engine.outputs(StackSpec(name=cell.stack)))
            except BrokerUnavailable as error:
                uses[name], problems[name] = None, str(error)
        return CellUses(uses, problems)

    def loads(self, states: list[DesiredState], found: CellUses) -> dict[str, Load]:
        """Return the load of each cell."""
        return cell_loads(states, found.uses, found.problems, self.catalog)


def open_site(platform: PlatformOptions, concurrency: int = 4) -> Site:
    """Return this folder's site. Raises InvalidChoice outside a project, or if nothing is deployed."""
    project = project_folder()
    cells = load_cells(project, platform.stack)
    engine = engine_for(platform.engine, project, concurrency=concurrency)
    dsn = engine.outputs(StackSpec(name=platform.stack)).get("registry_dsn")
    if not dsn:
        remedy = f"Run `kryonix up --stack {platform.stack}`, or give the platform's stack with --stack"
        raise InvalidChoice(f"stack {platform.stack!r} has no registry in its outputs: nothing is deployed. {remedy}")
    return Site(registry_dsn=str(dsn), cells=cells, engine=engine, catalog=default_catalog())


def project_folder(alternative: str = "") -> Path:
    """Return this folder. Raises InvalidChoice if it has no project; `alternative` extends the remedy."""
    project = Path.cwd()
    if not (project / "Pulumi.yaml").is_file():
        raise InvalidChoice(f"{project} has no Pulumi.yaml. Run this in the project's folder{alternative}")
    return project


def load_cells(project: Path, stack: str) -> Cells:
    """Return the cells of a project's cells.yaml, or the single cell of the stack."""
    file = project / CELLS_FILE
    return parse_cells(file.read_bytes(), CELLS_FILE) if file.is_file() else single_cell(stack)


def engine_of(options: PlatformOptions) -> Engine:
    """Return the engine of the options for this folder's project."""
    return engine_for(options.engine, project_folder())


def spec_of(options: PlatformOptions, stack: str | None = None) -> StackSpec:
    """Return the options' stack, or another stack of the same project."""
    config = options.config_file if isinstance(options, StackOptions) and stack is None else None
    return StackSpec(name=stack or options.stack, config_file=config)


def deployment_of(options: PlatformOptions, stack: str | None = None) -> dict[str, Any]:
    """Return a stack's deployment. Raises InvalidChoice if the engine does not know the stack."""
    spec = spec_of(options, stack)
    deployment = engine_of(options).export(spec)
    if not deployment:
        raise InvalidChoice(
            f"no stack {spec.name!r} in the Pulumi CLI's backend. Create it: `kryonix up --stack {spec.name}`"
        )
    return deployment


def outputs_with_platform(options: StackOptions, deployment: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stack's outputs with secrets; those of a tenant's own stack include its platform's."""
    own = engine_of(options).outputs(spec_of(options))
    platform = platform_of(deployment)
    if platform is None:
        return own
    found = {**engine_of(options).outputs(spec_of(options, platform)), **own}
    registry = str(own.get("registry_stack") or platform).rpartition("/")[2]
    if registry != platform:
        outputs = engine_of(options).outputs(spec_of(options, registry))
        found["registry_dsn"] = outputs.get("registry_dsn")
    return found
