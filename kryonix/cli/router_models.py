"""`kryonix router show`, `enable`, `status`, `share` and `access`: models, and their use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape

from kryonix.cli.options import Json, PlatformOptions, check_tenant, read_bytes
from kryonix.cli.output import router as output
from kryonix.cli.output.console import check_target, out, print_result, write_private
from kryonix.cli.router_outcomes import Outcomes, outcomes_of
from kryonix.cli.site import open_site, platform_command
from kryonix.errors import InvalidChoice
from kryonix.registry.connection import Connection, connect
from kryonix.registry.routing_access import end_access, give_access, has_access
from kryonix.registry.routing_models import (
    fetch_content,
    fetch_models,
    fetch_routing,
    fetch_sharing,
    set_mode,
    set_sharing,
)
from kryonix.registry.rows import fetch_tenants
from kryonix.routing.health import health
from kryonix.routing.model import MAX_BYTES, Model, read_model

_CANARY = 10.0

ModelFile = Annotated[Path, typer.Option("--model", metavar="FILE", help="Model that `router train` has written.")]
Tenant = Annotated[str, typer.Option("--tenant", metavar="ID", help="The tenant.")]
Whom = Annotated[str, typer.Argument(metavar="TENANT", help="Tenant ID.")]

app = typer.Typer()


def model_of(file: Path) -> Model:
    """Return a file's model. Raises InvalidChoice and ModelRefused."""
    return read_model(read_bytes(file, most=MAX_BYTES + 1), str(file))


@platform_command(app)
def show(
    platform: PlatformOptions,
    model: Annotated[Path | None, typer.Option(metavar="FILE", help="A model's file.")] = None,
    tenant: Annotated[str | None, typer.Option(metavar="ID", help="The model of this tenant in the registry.")] = None,
    version: Annotated[str | None, typer.Option(help="Its version; default: the one in use, else the newest.")] = None,
    json_output: Json = False,
) -> None:
    """Show a model: what it learned from, its figures, and how it decides each action."""
    if (model is None) == (tenant is None):
        raise InvalidChoice("a model is in a file or in the registry. Give one of --model FILE and --tenant ID")
    if model is not None:
        if version is not None:
            raise InvalidChoice("--version is of a model in the registry. Give --tenant ID, or omit it")
        found = model_of(model)
    else:
        check_tenant(str(tenant))
        with connect(open_site(platform).registry_dsn) as connection:
            found = _published(connection, str(tenant), version)
    print_result(output.model_json(found), output.model_report(found, out), json_output)


@platform_command(app)
def enable(
    platform: PlatformOptions,
    tenant: Tenant,
    mode: Annotated[
        Literal["off", "shadow", "canary", "on"], typer.Option(metavar="MODE", help="off, shadow, canary or on.")
    ],
    canary: Annotated[
        float | None, typer.Option(metavar="PERCENT", help="Percentage of messages in the mode canary. Default: 10.")
    ] = None,
    version: Annotated[str | None, typer.Option(help="Model; default: the one in use, else the newest.")] = None,
    json_output: Json = False,
) -> None:
    """Set how a tenant's applications use its model: not at all, only noting, for a share of the messages, or for all.

    Applications that read the registry follow without a restart.
    """
    check_tenant(tenant)
    if canary is None:
        canary = _CANARY if mode == "canary" else 0.0
    with connect(open_site(platform).registry_dsn) as connection:
        routing = set_mode(connection, tenant, mode, canary, version, by=os.environ.get("USER", ""))
    share = f" {routing.canary:g} %" if routing.mode == "canary" else ""
    text = f"{tenant}: {routing.mode}{share}, model {routing.version or 'none'}"
    value = {"tenant": tenant, "mode": routing.mode, "canary": routing.canary, "version": routing.version}
    print_result(value, escape(text), json_output)


@platform_command(app)
def status(
    platform: PlatformOptions,
    tenant: Annotated[str | None, typer.Option(metavar="ID", help="Only this tenant, with all its models.")] = None,
    outcomes: Outcomes = None,
    json_output: Json = False,
) -> None:
    """Show each tenant's mode and model; with outcomes of one tenant also drift, errors and missed deadlines.

    Exit status 1 if an action of the tenant's model would have fallen back to the rules on the outcomes.
    """
    if outcomes and tenant is None:
        raise InvalidChoice("--outcomes are of one tenant. Give --tenant ID too")
    if tenant is not None:
        check_tenant(tenant)
    with connect(open_site(platform).registry_dsn) as connection:
        if tenant is None:
            tenants = _tenants(connection)
            print_result(tenants, output.tenants_report(tenants, out), json_output)
            return
        found = _tenant(connection, tenant)
        model = _published(connection, tenant, None) if outcomes else None
    actions = [] if model is None else health(model, outcomes_of(outcomes, [str(tenant)]))
    value = {**found, **({"actions": actions} if model else {})}
    print_result(value, output.tenant_report(found, actions, out), json_output)
    if any(each.problem for each in actions):
        raise typer.Exit(1)


@platform_command(app)
def share(
    platform: PlatformOptions,
    tenant: Whom,
    stop: Annotated[bool, typer.Option("--stop", help="Share no longer; models that exist stay.")] = False,
    json_output: Json = False,
) -> None:
    """Let a tenant's outcomes train models of other tenants that share theirs too. Ask the customer first."""
    check_tenant(tenant)
    with connect(open_site(platform).registry_dsn) as connection:
        set_sharing(connection, tenant, not stop)
    text = f"{tenant} {'no longer shares' if stop else 'shares'} its outcomes with tenants that share theirs"
    print_result({"tenant": tenant, "shares": not stop}, escape(text), json_output)


@platform_command(app)
def access(
    platform: PlatformOptions,
    tenant: Whom,
    output_file: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write the address here, mode 600.")
    ] = None,
    revoke: Annotated[bool, typer.Option("--revoke", help="End the tenant's access.")] = False,
) -> None:
    """Give a tenant's applications a login to read mode and model of this tenant, and nothing else.

    Run again, it replaces the password: the address before ends.
    """
    check_tenant(tenant)
    if (output_file is None) != revoke:
        raise InvalidChoice("the address has a password, so it is not printed. Give one of --output FILE and --revoke")
    if output_file is not None:
        check_target(output_file)
    site = open_site(platform)
    with connect(site.registry_dsn) as connection:
        if output_file is None:
            text = "ended" if end_access(connection, tenant) else "had no access"
        else:
            dsn = give_access(connection, site.registry_dsn, tenant)
            write_private(output_file, {"tenant": tenant, "routing_dsn": dsn})
            text = f"the address is in {output_file}"
    out.print(escape(f"{tenant}: {text}"), soft_wrap=True)


def _published(connection: Connection, tenant: str, version: str | None) -> Model:
    """Return a tenant's model. Raises InvalidChoice if it has none."""
    models = fetch_models(connection, tenant)
    if version is None:
        version = next((each.version for each in models if each.in_use), models[0].version if models else None)
    if version is None:
        remedy = f"`kryonix router train --tenant {tenant} --publish` makes one"
        raise InvalidChoice(f"the tenant {tenant!r} has no model. {remedy}")
    return read_model(fetch_content(connection, tenant, version), f"the model {version} of the tenant {tenant!r}")


def _tenants(connection: Connection) -> list[dict[str, Any]]:
    """Return mode and model of each tenant that has a model or shares its outcomes."""
    found = [_tenant(connection, row.cliente_id) for row in fetch_tenants(connection) if row.status != "removido"]
    return [each for each in found if each["models"] or each["shares"]]


def _tenant(connection: Connection, tenant: str) -> dict[str, Any]:
    """Return a tenant's mode, its models, and what it has agreed to. Raises InvalidChoice for an unknown tenant."""
    if not fetch_tenants(connection, tenant):
        raise InvalidChoice(f"the registry has no tenant {tenant!r}. `kryonix tenant list` shows those there are")
    routing = fetch_routing(connection, tenant)
    return {
        "tenant": tenant,
        "mode": "off" if routing is None else routing.mode,
        "canary": 0.0 if routing is None else routing.canary,
        "version": routing and routing.version,
        "changed_at": routing and routing.changed_at,
        "models": fetch_models(connection, tenant),
        "shares": tenant in fetch_sharing(connection),
        "access": has_access(connection, tenant),
    }
