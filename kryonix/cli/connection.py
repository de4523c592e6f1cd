"""Options, address and errors of commands that act as one tenant."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from kryonix.cli.options import DEFAULT_STACK, CatalogFile, PlatformOptions
from kryonix.errors import InvalidChoice
from kryonix.messaging.configuration import (
    OUTPUTS_VARIABLE,
    URI_VARIABLE,
    WRITE_IT,
    Address,
    address_of,
    credentials_in,
    find_address,
    read_outputs,
)
from kryonix.topology.catalog import Catalog
from kryonix.topology.errors import nearest
from kryonix.topology.naming import Names

Result = TypeVar("Result")


def _refuse_uri(value: str | None) -> None:
    if value is not None:
        raise InvalidChoice(
            "--uri is not accepted: other users of this machine can read command lines, and the URI has a password. "
            f"Set {URI_VARIABLE}, or give --outputs FILE or --stack STACK"
        )


ModuleFilter = Annotated[str | None, typer.Option("--module", help="Only this module.")]
ActionFilter = Annotated[str | None, typer.Option("--action", help="Only this action of the module.")]
ManagementUrl = Annotated[str | None, typer.Option(help="Management API; default: from the outputs.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantOptions:
    """The tenant to act as, and the source of its credentials: at most one of `outputs` and `stack`."""

    tenant: Annotated[
        str | None, typer.Option(metavar="ID", help="Tenant ID; needed if the source has several tenants.")
    ] = None
    outputs: Annotated[
        Path | None,
        typer.Option(
            help=f"File of `kryonix tenant credentials`, mode 600. Default: {URI_VARIABLE}, else {OUTPUTS_VARIABLE}."
        ),
    ] = None
    stack: Annotated[
        str | None,
        typer.Option(
            "--stack", "-s", help=f"Read this stack's outputs instead, as an operator. Default: {DEFAULT_STACK}."
        ),
    ] = None
    catalog: CatalogFile = None
    uri: Annotated[str | None, typer.Option("--uri", "--amqp-uri", hidden=True, callback=_refuse_uri)] = None


@dataclass(frozen=True, slots=True)
class TenantConnection:
    """A tenant's address, and its plan and modules if known: an AMQP URI contains neither."""

    address: Address
    plan: str | None = None
    modules: tuple[str, ...] | None = None


def find_connection(options: TenantOptions, management_url: str | None = None) -> TenantConnection:
    """Return the connection of --outputs or --stack, else the environment's URI or file, else the default stack's.

    Raises InvalidChoice or ConfigurationError.
    """
    if options.outputs is not None and options.stack is not None:
        raise InvalidChoice("--outputs and --stack are both given. Give one of them")
    file = options.outputs
    if options.stack is None and file is None:
        if uri := os.environ.get(URI_VARIABLE):
            return TenantConnection(find_address(uri, None, options.tenant, management_url))
        file = Path(os.environ[OUTPUTS_VARIABLE]) if os.environ.get(OUTPUTS_VARIABLE) else None
    if file is not None:
        outputs, source = read_outputs(file, private=True), str(file)
    else:
        stack = options.stack or DEFAULT_STACK
        outputs, source = tenant_outputs(stack, options.tenant), f"stack {stack!r}"
    uri, fields = credentials_in(outputs, options.tenant, source)
    plan, modules = fields.get("plan"), fields.get("modules")
    texts = isinstance(modules, list) and all(isinstance(each, str) for each in modules)
    if not isinstance(plan, str | None) or not (modules is None or texts):
        raise InvalidChoice(f"{source}: invalid plan or modules of the tenant. Run `kryonix outputs` again")
    address = address_of(uri, outputs, management_url, fields=fields)
    return TenantConnection(address, plan, None if modules is None else tuple(modules))


def stack_outputs(stack: str) -> dict[str, Any]:
    """Return a stack's outputs with secrets. Raises InvalidChoice outside a project."""
    from kryonix.cli import site  # imports the engines, 0.3 s; only this source needs them

    site.project_folder(f", set {URI_VARIABLE}, or give --outputs FILE (written by {WRITE_IT})")
    options = PlatformOptions(stack=stack)
    outputs = site.engine_of(options).outputs(site.spec_of(options))
    if not outputs:
        raise site.nothing_deployed(options, "has no outputs: nothing is deployed")
    return outputs


def tenant_outputs(stack: str, tenant: str | None) -> dict[str, Any]:
    """Return the outputs of the stack that has the tenant: this one, the tenant's own, or another cell's platform.

    Raises InvalidChoice for a tenant of another platform, NoCredentials for an unknown one.
    """
    outputs = stack_outputs(stack)
    listed = outputs.get("tenants", {})
    if tenant is None or tenant in listed:
        return outputs
    from kryonix.cli import site
    from kryonix.engines.containers import platform_of
    from kryonix.engines.engine import StackSpec
    from kryonix.tenants.errors import NoCredentials

    engine, names = site.engine_of(PlatformOptions(stack=stack)), Names(tenant)
    platforms = {cell.stack for cell in site.load_cells(site.project_folder(), stack).cells.values()} | {stack}
    stacks = engine.stacks()
    if names.stack in stacks:
        platform = platform_of(engine.export(StackSpec(name=names.stack)))
        if platform in platforms and (own := engine.outputs(StackSpec(name=names.stack))):
            return own
        remedy = f"Give --stack {platform or names.stack}"
        raise InvalidChoice(f"tenant {tenant!r} is not on the platform of stack {stack!r}. {remedy}")
    for other in sorted(platforms - {stack}):
        if tenant in (found := engine.outputs(StackSpec(name=other))).get("tenants", {}):
            return found
    raise NoCredentials(tenant, stack, sorted({*listed, *site.tenants_of(stacks)}))


def select_routes(
    catalog: Catalog, modules: Iterable[str] | None, module: str | None, action: str | None
) -> list[tuple[str, str]]:
    """Return the (module, action) pairs of `modules` (None: all), filtered by one module or one action of it."""
    known = [name for name in catalog.modules if modules is None or name in set(modules)]
    if action is not None and module is None:
        raise InvalidChoice(f"--action {action!r} needs --module")
    if module is not None and module not in known:
        raise InvalidChoice(f"--module {module!r} is not a module of the tenant; {nearest(module, known)}")
    routes = [(name, each) for name in known if module in (None, name) for each in catalog.modules[name].actions]
    if action is None:
        return routes
    if (str(module), action) not in routes:
        hint = nearest(action, [each for _, each in routes])
        raise InvalidChoice(f"--action {action!r} is not an action of {module}; {hint}")
    return [(str(module), action)]


def run_async(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end."""
    # The SDK reports a broken connection itself; these add only tracebacks.
    for library in ("aio_pika", "aiormq"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    return asyncio.run(work)
