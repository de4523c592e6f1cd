"""The project in this folder: its stacks, its registry and its cells, and why one of its services does not answer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, Final, ParamSpec, cast

import typer

from kryonix.cli.options import PlatformOptions, StackOptions, command
from kryonix.cli.output.console import print_error
from kryonix.engines.choice import engine_for
from kryonix.engines.containers import advice, containers, paused, platform_of, worker_container
from kryonix.engines.engine import Engine, StackSpec
from kryonix.engines.errors import Refused
from kryonix.errors import InvalidChoice, KryonixError, MissingPrerequisite, ServiceUnreachable
from kryonix.fleet.cell_use import VhostUse, read_cell
from kryonix.fleet.members import cell_loads, other_tenants
from kryonix.fleet.placement import Load
from kryonix.fleet.unchanged import Unchanged
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.registry.connection import connect
from kryonix.registry.desired_states import DesiredState, fetch_desired_states
from kryonix.registry.rows import fetch_tenants
from kryonix.tenants.adoption import TenantsFile
from kryonix.tenants.errors import UnknownTenant
from kryonix.tenants.lifecycle import TenantLifecycle
from kryonix.topology.catalog import Catalog, default_catalog
from kryonix.topology.cells import CELLS_FILE, Cells, parse_cells, single_cell
from kryonix.topology.document import parse
from kryonix.topology.errors import nearest, shown
from kryonix.topology.naming import TENANT_STACK

P = ParamSpec("P")

_FAILED: Final = 1
_NODES_NAMED: Final = ("majority-missing", "cluster-not-formed")
"""Kinds of failures that name every node of a cluster that is missing."""


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
    outputs: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The outputs of the platform's stack, as they were when the site was opened."""
    service_worker: str = ""
    """The container of the signup service's worker, which has the state of the tenants made there."""

    @property
    def unchanged(self) -> Unchanged:
        """Return what tells which tenants' stacks have nothing to change."""
        return Unchanged(self.registry_dsn, self.engine, self.cells, self.catalog)

    def states(self, cell: str | None = None) -> list[DesiredState]:
        """Return the desired state of every tenant, or of one cell's. Raises InvalidChoice for an unknown cell."""
        if cell is not None and cell not in self.cells.cells:
            here = "are" if Path(CELLS_FILE).is_file() else "would be"
            hint = f"{nearest(cell, self.cells.cells)}. Cells {here} declared in {CELLS_FILE}"
            raise InvalidChoice(f"--cell {shown(cell)} is not a cell; {hint}")
        with connect(self.registry_dsn) as connection:
            return fetch_desired_states(connection, cell=cell)

    def tenants(self, stacks: Collection[str]) -> tuple[list[DesiredState], dict[str, str]]:
        """Return every tenant in the registry by id, and what manages each of those without a desired state.

        `stacks` are the engine's.
        """
        with connect(self.registry_dsn) as connection:
            states, rows = fetch_desired_states(connection), fetch_tenants(connection)
        cells = {
            tenant: name
            for name, cell in self.cells.cells.items()
            for tenant in self.engine.outputs(StackSpec(name=cell.stack), show_secrets=False).get("tenants", {})
        }
        others = other_tenants(rows, states, cells, stacks)
        found = {state.cliente_id: state for state in states} | {id: state for id, (state, _) in others.items()}
        return [found[id] for id in sorted(found)], {id: manager for id, (_, manager) in others.items()}

    def lifecycle(self, **durations: Any) -> TenantLifecycle:
        """Return the operations on tenants; `durations` are `overlap` and `grace`."""
        return TenantLifecycle(
            self.registry_dsn, self.engine, self.cells, self.catalog, service_worker=self.service_worker, **durations
        )

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


def open_site(platform: PlatformOptions, concurrency: int = 4, *, keep: bool = False) -> Site:
    """Return this folder's site. Raises InvalidChoice outside a project, or if nothing is deployed.

    With `keep`, its engine is for many runs.
    """
    project = project_folder()
    cells = load_cells(project, platform.stack)
    engine = engine_for(platform.engine, project, concurrency=concurrency, keep=keep)
    outputs = engine.outputs(StackSpec(name=platform.stack))
    dsn = outputs.get("registry_dsn")
    if not dsn and (own := str(outputs.get("registry_stack", "")).rpartition("/")[2]):
        raise InvalidChoice(
            f"stack {platform.stack!r} is a tenant's, not a platform's. Give the platform's: --stack {own}"
        )
    if not dsn:
        raise nothing_deployed(platform, "has no registry in its outputs: nothing is deployed")
    worker = worker_container(platform.stack.rpartition("/")[2]) if outputs.get("signup_url") else ""
    return Site(
        registry_dsn=str(dsn),
        cells=cells,
        engine=engine,
        catalog=default_catalog(),
        outputs=outputs,
        service_worker=worker,
    )


def project_folder(alternative: str = "") -> Path:
    """Return this folder. Raises InvalidChoice if it has no project; `alternative` extends the remedy."""
    project = Path.cwd()
    if not (project / "Pulumi.yaml").is_file():
        raise InvalidChoice(f"{project} has no Pulumi.yaml. Run this in the project's folder{alternative}")
    return project


def load_cells(project: Path, stack: str) -> Cells:
    """Return the cells of a project's cells.yaml, or the single cell of the stack."""
    file = project / CELLS_FILE
    return parse_cells(file.read_bytes(), CELLS_FILE) if file.is_file() else single_cell(stack.rpartition("/")[2])


def engine_of(options: PlatformOptions) -> Engine:
    """Return the engine of the options for this folder's project."""
    return engine_for(options.engine, project_folder())


def spec_of(options: PlatformOptions) -> StackSpec:
    """Return the options' stack.

    Raises InvalidChoice if only other stacks have a config file or resources: `up` would make a platform of a
    mistyped name.
    """
    config = options.config_file if isinstance(options, StackOptions) else None
    if config is None and not config_file(options.stack).is_file():
        # The stack's own state first: there may be thousands of others.
        own = engine_of(options).export(StackSpec(name=options.stack)).get("deployment") or {}
        known = [] if own.get("resources") or own.get("pending_operations") else _known_stacks(options)
        if known and options.stack.rpartition("/")[2] not in known:
            problem = f"there is no stack {options.stack!r}; {nearest(options.stack, known)}"
            raise InvalidChoice(f"{problem}. For a new stack, write {config_file(options.stack).name} first")
    return StackSpec(name=options.stack, config_file=config)


def nothing_deployed(options: PlatformOptions, problem: str) -> InvalidChoice:
    """Return the error for a stack without resources: how to create it, or which stacks exist."""
    known = _known_stacks(options)
    remedy = f"Run `kryonix up --stack {options.stack}`, or give the platform's stack with --stack"
    if known and options.stack not in known:
        remedy = f"Give the platform's stack with --stack; {nearest(options.stack, known)}"
    return InvalidChoice(f"stack {options.stack!r} {problem}. {remedy}")


def tenants_of(stacks: Iterable[str]) -> list[str]:
    """Return the tenants with a stack of their own among these stacks."""
    return [stack.removeprefix(TENANT_STACK) for stack in stacks if stack.startswith(TENANT_STACK)]


def config_file(stack: str) -> Path:
    """Return the config file of a stack in this folder's project."""
    return project_folder() / f"Pulumi.{stack.rpartition('/')[2]}.yaml"


def _known_stacks(options: PlatformOptions) -> list[str]:
    """Return the stacks with a config file or with resources."""
    files = [file.name.removeprefix("Pulumi.").removesuffix(".yaml") for file in Path.cwd().glob("Pulumi.*.yaml")]
    return sorted({*files, *engine_of(options).stacks()})


def deployment_of(options: PlatformOptions) -> dict[str, Any]:
    """Return a stack's deployment. Raises InvalidChoice if the engine does not know the stack."""
    spec = spec_of(options)
    deployment = engine_of(options).export(spec)
    if not deployment:
        raise InvalidChoice(
            f"no stack {spec.name!r} in the Pulumi CLI's backend. Create it: `kryonix up --stack {spec.name}`"
        )
    return deployment


def outputs_with_platform(options: StackOptions, deployment: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stack's outputs with secrets; those of a tenant's own stack include its platform's."""
    engine = engine_of(options)
    own = engine.outputs(spec_of(options))
    platform = platform_of(deployment)
    if platform is None:
        return own
    # A tenant's own stack may name no nodes, where its platform's does.
    found = {**engine.outputs(StackSpec(name=platform)), **{key: value for key, value in own.items() if value != []}}
    registry = str(own.get("registry_stack") or platform).rpartition("/")[2]
    if registry != platform:
        found["registry_dsn"] = engine.outputs(StackSpec(name=registry)).get("registry_dsn")
    return found


def tenants_file(stack: str) -> TenantsFile:
    """Return the list of tenants in a platform's config, by default the project's."""
    path = "tenants.yaml"
    for file in (project_folder() / "Pulumi.yaml", config_file(stack)):
        if file.is_file():
            config = (parse(file.read_bytes(), file.name).value or {}).get("config") or {}
            declared = config.get("kryonix:tenantsFile", config.get("tenantsFile", path))
            path = declared.get("default", path) if isinstance(declared, dict) else str(declared)
    return TenantsFile(path=project_folder() / path)


class Outage:
    """The containers of a stack's platform, as recorded when this object was made."""

    def __init__(self, options: PlatformOptions) -> None:
        self._options = options
        deployment = self._export(options.stack)
        self._stack = platform_of(deployment) or options.stack
        self._containers = containers(deployment if self._stack == options.stack else self._export(self._stack))

    def refuse_paused(self) -> None:
        """Raise ServiceUnreachable if a container is paused: each request to it would wait until it times out."""
        if text := paused(self._stack, self._containers):
            raise ServiceUnreachable(text)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Raise ServiceUnreachable with the cause, if Docker knows it, instead of the block's error."""
        try:
            yield
        except KryonixError as error:
            # A missing image or an occupied port is itself the cause. So are nodes that their error names already.
            refused = isinstance(error, Refused) or error.exit_status == Refused.exit_status
            named = error.failure is not None and error.failure.kind in _NODES_NAMED
            if refused or named or _caused_by_prerequisite(error) or not (text := self.advice()):
                raise
            raise ServiceUnreachable(text) from error

    def advice(self) -> str | None:
        """Return which container does not run and what to do, or None if all run."""
        noted = frozenset(self._containers) - frozenset(containers(self._export(self._stack)))
        return advice(self._stack, self._containers, noted)

    def _export(self, stack: str) -> Mapping[str, Any]:
        try:
            return engine_of(self._options).export(StackSpec(name=stack))
        except KryonixError:  # the command that follows reports it
            return {}


def _caused_by_prerequisite(error: BaseException | None) -> bool:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:  # a failure of several threads may be its own cause
        if isinstance(error, MissingPrerequisite):
            return True
        seen.add(id(error))
        error = error.__cause__
    return False


def print_outage(platform: PlatformOptions) -> None:
    """Print which container of the platform does not run, if any."""
    if text := Outage(platform).advice():
        print_error(text)


def exit_for(platform: PlatformOptions, errors: Iterable[KryonixError | None]) -> None:
    """Exit if any of several operations failed: with 3 if only because a service does not answer, else with 1."""
    statuses = {error.exit_status for error in errors if error is not None}
    unreachable = ServiceUnreachable.exit_status
    if unreachable in statuses:
        print_outage(platform)
    if statuses:
        raise typer.Exit(unreachable if statuses == {unreachable} else _FAILED)


def platform_command(app: typer.Typer, name: str | None = None) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Register a command whose errors name a stopped container, or the list that declares a tenant.

    Its platform is the argument `platform`.
    """

    def register(run: Callable[P, None]) -> Callable[P, None]:
        @wraps(run)
        def explained(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                run(*args, **kwargs)
            except KryonixError as error:
                platform = cast(PlatformOptions, kwargs["platform"])
                if isinstance(error, UnknownTenant):
                    raise _no_operations(platform, error.tenant) from None
                if error.exit_status != ServiceUnreachable.exit_status:
                    raise
                with Outage(platform).explained():
                    raise

        return command(app, name)(explained)

    return register


def _no_operations(platform: PlatformOptions, tenant: str) -> InvalidChoice:
    """Return the error for a tenant without a desired state: where it is declared, or which tenants exist."""
    engine, stack = engine_of(platform), f"{TENANT_STACK}{tenant}"
    listed = engine.outputs(spec_of(platform)).get("tenants", {})
    if tenant in listed:
        remedy = "Change its entry there (to suspend it: `status: suspended`), then run `kryonix up --stack"
        return InvalidChoice(
            f"the tenant {tenant!r} is declared in the platform's list of tenants, tenants.yaml, and has no stack of "
            f"its own. {remedy} {platform.stack}`. Or give it a stack of its own, with nothing changed on the broker: "
            f"`kryonix tenant adopt {tenant} --stack {platform.stack}`"
        )
    stacks = engine.stacks()
    if stack in stacks:
        remedy = f"Change it there, then run `kryonix up --stack {stack}`"
        return InvalidChoice(f"the tenant {tenant!r} is declared in Pulumi.{stack}.yaml. {remedy}")
    known = sorted({*listed, *tenants_of(stacks)})
    hint = f"; {nearest(tenant, known)}" if known else ""
    return InvalidChoice(f"there is no tenant {shown(tenant)}{hint}. `kryonix tenant list` shows all tenants")
