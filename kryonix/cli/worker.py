"""`kryonix worker`: from what was asked for to a worker at work, or to the KEDA objects of the same plan."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

from kryonix.cli.messages.access import find_access
from kryonix.cli.messages.acting import Asked
from kryonix.cli.messages.event_loop import translated
from kryonix.cli.messages.routes import select_routes
from kryonix.errors import InvalidChoice
from kryonix.topology.catalog import Catalog, Scaling
from kryonix.topology.errors import nearest
from kryonix.topology.naming import Names
from kryonix.topology.tenants import parse_tenants
from kryonix.worker.handlers import Handlers, load_handlers
from kryonix.worker.keda import keda_yaml
from kryonix.worker.metrics import WorkerMetrics
from kryonix.worker.pool import ConsumerOptions
from kryonix.worker.worker import Worker, WorkerOptions

__all__ = ["Choice", "keda", "work"]


@dataclass(frozen=True, slots=True)
class Choice:
    """Whose messages, which handlers, and how far to scale."""

    asked: Asked
    catalog: Catalog
    handlers: str | None
    module: str | None
    action: str | None
    plan: str | None
    max_consumers: int | None


async def work(
    choice: Choice,
    interval: float,
    window: float,
    consumers: ConsumerOptions,
    metrics_host: str,
    metrics_port: int | None,
) -> None:
    """Run a worker until a signal ends it."""
    access = find_access(choice.asked)
    options = WorkerOptions(_scaling(choice, access.plan), interval, window, consumers)
    handlers = _handlers(choice, access.modules)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    metrics = WorkerMetrics(access.address.tenant_id)
    if metrics_port is not None:
        metrics.serve(metrics_host, metrics_port)
    try:
        await Worker(access.address, choice.catalog, handlers, options, metrics).run()
    finally:
        metrics.close()


def keda(choice: Choice, tenants: Path, window: int, namespace: str) -> str:
    """The KEDA objects for the actions chosen: of the handlers where they are given, else of all the tenant has."""
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", namespace):
        problem = f"--namespace {namespace!r} is no name of a namespace"
        raise InvalidChoice(f"{problem}. Use lower-case letters, digits and hyphens, 63 at most")
    tenant, plan, modules = _bought(choice, tenants)
    scaling = _scaling(choice, plan)
    if choice.handlers is not None:
        routes = list(_handlers(choice, modules))
    else:
        routes = select_routes(choice.catalog, modules, choice.module, choice.action)
    return keda_yaml(Names(tenant), choice.catalog, scaling, routes, window, namespace)


def _bought(choice: Choice, file: Path) -> tuple[str, str | None, tuple[str, ...] | None]:
    """Who, which plan, which modules: from outputs, else from the list of tenants, without any credentials."""
    if choice.asked.outputs is not None or choice.asked.stack is not None:
        with translated():
            access = find_access(choice.asked)
        return access.address.tenant_id, access.plan, access.modules
    try:
        tenants = parse_tenants(file.read_bytes(), str(file), choice.catalog)
    except OSError as error:
        remedy = "Name the list of tenants with --tenants, or give --outputs or --stack"
        raise InvalidChoice(f"{str(file)!r} can't be read: {error.strerror}. {remedy}") from error
    known = {tenant.id: tenant for tenant in tenants}
    name = choice.asked.tenant if choice.asked.tenant is not None or len(known) != 1 else next(iter(known))
    if name is None or name not in known:
        raise InvalidChoice(f"--tenant {name!r} is not in {file}; {nearest(name, known)}")
    return name, known[name].plan, known[name].modules


def _scaling(choice: Choice, bought: str | None) -> Scaling:
    """The plan's figures, with fewer consumers where that is asked for."""
    plan = choice.plan or bought
    if plan is None:
        raise InvalidChoice("an AMQP URI does not say which plan the tenant has. Give --plan, or --outputs or --stack")
    if plan not in choice.catalog.plans:
        raise InvalidChoice(f"--plan {plan!r} is not in the catalog; {nearest(plan, choice.catalog.plans)}")
    scaling = choice.catalog.plans[plan].scaling
    if choice.max_consumers is None:
        return scaling
    fewer = min(choice.max_consumers, scaling.max_consumers_per_queue)
    return scaling.model_copy(update={"max_consumers_per_queue": fewer})


def _handlers(choice: Choice, modules: tuple[str, ...] | None) -> Handlers:
    """The handlers to run, of those given."""
    if choice.handlers is None:
        raise InvalidChoice("no handlers. Name them as MODULE:HANDLERS, as in shop.handlers:HANDLERS")
    found = load_handlers(choice.handlers, choice.catalog)
    routes = select_routes(choice.catalog, modules, choice.module, choice.action)
    missing = [f"{module}.{action}" for module, action in found if modules is not None and module not in modules]
    if missing and choice.module is None:
        problem = f"{choice.handlers} handles {', '.join(missing)}, which the tenant has not bought"
        raise InvalidChoice(f"{problem}. Remove them, or name with --module what to run")
    chosen = {route: handler for route, handler in found.items() if route in routes}
    if not chosen:
        raise InvalidChoice(f"{choice.handlers} has no handler for --module {choice.module} --action {choice.action}")
    return chosen
