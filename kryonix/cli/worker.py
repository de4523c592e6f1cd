"""`kryonix worker`: run handlers, or print the KEDA objects of the same plan."""

from __future__ import annotations

import logging
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from kryonix.cli.connection import (
    ActionFilter,
    ManagementUrl,
    ModuleFilter,
    TenantOptions,
    find_connection,
    run_async,
    select_routes,
)
from kryonix.cli.options import command, load_catalog, read_bytes
from kryonix.cli.router_outcomes import DATABASE, VARIABLE, check_address, place_of
from kryonix.errors import InvalidChoice
from kryonix.messaging import ConsumeOptions, JsonLinesOutcomes, Outcomes, PostgresOutcomes
from kryonix.messaging.configuration import choose_tenant
from kryonix.topology.catalog import Catalog, Scaling
from kryonix.topology.errors import nearest
from kryonix.topology.naming import Names
from kryonix.topology.tenants import parse_tenants
from kryonix.worker.handlers import Handlers, load_handlers
from kryonix.worker.keda import keda_yaml
from kryonix.worker.metrics import WorkerMetrics
from kryonix.worker.worker import Worker, WorkerOptions

_DAY_S: Final = 86_400.0
_NAMESPACE: Final = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"

app = typer.Typer(add_completion=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionOptions:
    """The handlers to run, and how far to scale them."""

    handlers: Annotated[
        str | None, typer.Argument(metavar="MODULE:HANDLERS", help="Mapping of module.action to async functions.")
    ] = None
    module: ModuleFilter = None
    action: ActionFilter = None
    plan: Annotated[str | None, typer.Option(help="The tenant's plan; default: from the outputs.")] = None
    max_consumers: Annotated[
        int | None, typer.Option(min=1, help="Maximum consumers per queue, if lower than the plan's.")
    ] = None


@command(app)
def worker(
    selection: SelectionOptions,
    tenant: TenantOptions,
    management_url: ManagementUrl = None,
    concurrency: Annotated[int, typer.Option(min=1, max=10_000, help="Concurrent messages per consumer.")] = 10,
    prefetch: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="Prefetch per consumer; default: twice the concurrency.")
    ] = None,
    handler_timeout: Annotated[
        float, typer.Option(min=0.1, max=_DAY_S, help="Seconds until a handler counts as failed.")
    ] = 60.0,
    interval: Annotated[float, typer.Option(min=0.5, max=_DAY_S, help="Seconds between scaling decisions.")] = 5.0,
    window: Annotated[
        int, typer.Option(min=0, max=3_600, help="Seconds of low depth before a consumer is stopped.")
    ] = 120,
    drain: Annotated[float, typer.Option(min=0, max=_DAY_S, help="Seconds for handlers to finish at the end.")] = 30.0,
    metrics_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Serve Prometheus metrics here.")] = None,
    metrics_host: Annotated[str, typer.Option(help="Address to serve metrics on.")] = "127.0.0.1",
    outcomes: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|ADDRESS",
            help=f"Note here what became of messages: a file, or PostgreSQL's address. Default: {VARIABLE}.",
        ),
    ] = None,
    outcomes_share: Annotated[
        float, typer.Option(min=0.0001, max=1, help="Share of the messages to note; the same as the senders'.")
    ] = 0.1,
    keda: Annotated[bool, typer.Option("--keda", help="Print KEDA ScaledObjects of the plan instead.")] = False,
    namespace: Annotated[str, typer.Option(help="Namespace of the KEDA objects.")] = "default",
    tenants: Annotated[Path, typer.Option(metavar="FILE", help="List of tenants, for --keda without outputs.")] = Path(
        "tenants.yaml"
    ),
) -> None:
    """Run handlers, with consumers scaled by queue depth within the plan."""
    catalog = load_catalog(tenant.catalog)
    if keda:
        sys.stdout.write(_keda(selection, tenant, catalog, tenants, window, namespace))
        return
    connection = find_connection(tenant, management_url)
    scaling = _scaling(selection, connection.plan, catalog)
    prefetch = prefetch or 2 * concurrency
    consume = ConsumeOptions(concurrency=concurrency, prefetch=prefetch, handler_timeout=handler_timeout)
    options = WorkerOptions(scaling, interval, window, drain, consume)
    handlers = _handlers(selection, connection.modules, catalog)
    noted = _outcomes(outcomes, outcomes_share)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    metrics = WorkerMetrics()
    try:
        if metrics_port is not None:
            metrics.serve(metrics_host, metrics_port)
        run_async(Worker(connection.address, catalog, handlers, options, metrics, noted).run())
    finally:
        metrics.close()


def _keda(
    selection: SelectionOptions, options: TenantOptions, catalog: Catalog, file: Path, window: int, namespace: str
) -> str:
    """Return the KEDA objects of the selected handlers, or of all the tenant's actions without handlers."""
    if not re.fullmatch(_NAMESPACE, namespace):
        rule = "lower-case letters, digits and hyphens, 63 at most"
        raise InvalidChoice(f"--namespace {namespace!r} is not a valid namespace ({rule})")
    if options.outputs is not None or options.stack is not None:
        connection = find_connection(options)
        tenant, plan, modules = connection.address.tenant_id, connection.plan, connection.modules
    else:  # the list of tenants needs no login
        content = read_bytes(file, "Give the list with --tenants, or give --outputs or --stack")
        known = {tenant.id: tenant for tenant in parse_tenants(content, str(file), catalog)}
        tenant = choose_tenant(options.tenant, known, str(file))
        plan, modules = known[tenant].plan, known[tenant].modules
    scaling = _scaling(selection, plan, catalog)
    if selection.handlers is not None:
        routes = list(_handlers(selection, modules, catalog))
    else:
        routes = select_routes(catalog, modules, selection.module, selection.action)
    return keda_yaml(Names(tenant), catalog, scaling, routes, window, namespace)


def _scaling(selection: SelectionOptions, tenant_plan: str | None, catalog: Catalog) -> Scaling:
    """Return the plan's scaling, limited by --max-consumers."""
    plan = selection.plan or tenant_plan
    if plan is None:
        raise InvalidChoice("an AMQP URI does not contain the tenant's plan. Give --plan, or --outputs or --stack")
    if plan not in catalog.plans:
        raise InvalidChoice(f"--plan {plan!r} is not in the catalog; {nearest(plan, catalog.plans)}")
    scaling = catalog.plans[plan].scaling
    if selection.max_consumers is None:
        return scaling
    fewer = min(selection.max_consumers, scaling.max_consumers_per_queue)
    return scaling.model_copy(update={"max_consumers_per_queue": fewer})


def _outcomes(given: str | None, share: float) -> Outcomes | None:
    """Return where notes go; None if neither the option nor the variable says so. Raises InvalidChoice."""
    if given is None and not os.environ.get(VARIABLE):
        return None
    place = place_of(given, "--outcomes FILE")
    if place.startswith(DATABASE):
        check_address(place)
        return Outcomes(PostgresOutcomes(place), share)
    file = Path(place)
    try:
        file.open("ab").close()
    except OSError as error:
        raise InvalidChoice(f"--outcomes {place!r} can't be written: {error.strerror}. Choose another file") from error
    return Outcomes(JsonLinesOutcomes(file), share)


def _handlers(selection: SelectionOptions, modules: tuple[str, ...] | None, catalog: Catalog) -> Handlers:
    """Return the handlers to run. Raises InvalidChoice if there are none, or if the tenant lacks a module."""
    if selection.handlers is None:
        raise InvalidChoice("no handlers. Give MODULE:HANDLERS, such as shop.handlers:HANDLERS")
    found = load_handlers(selection.handlers, catalog)
    routes = select_routes(catalog, modules, selection.module, selection.action)
    missing = [f"{module}.{action}" for module, action in found if modules is not None and module not in modules]
    if missing and selection.module is None:
        problem = f"{selection.handlers} handles {', '.join(missing)}, which are not among the tenant's modules"
        raise InvalidChoice(f"{problem}. Remove these handlers, or choose others with --module")
    chosen = {route: handler for route, handler in found.items() if route in routes}
    if not chosen:
        option = f"--module {selection.module}" + (f" --action {selection.action}" if selection.action else "")
        raise InvalidChoice(f"{selection.handlers} has no handler for {option}")
    return chosen
