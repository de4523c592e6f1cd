"""Commands for a tenant's messages: send, consume, stats, redrive and unrouted."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer
from rich.markup import escape

from kryonix.cli.connection import (
    ActionFilter,
    ManagementUrl,
    ModuleFilter,
    TenantOptions,
    find_connection,
    run_async,
    select_routes,
    stack_outputs,
    tenant_outputs,
)
from kryonix.cli.options import DEFAULT_STACK, Json, check_tenant, command, load_catalog, read_bytes
from kryonix.cli.output import messages as output
from kryonix.cli.output.console import err, out, print_error, print_result
from kryonix.errors import InvalidChoice, ServiceUnreachable
from kryonix.messaging import Message, MessagingClient, Outgoing, SendResult
from kryonix.messaging.configuration import Address
from kryonix.messaging.redrive.mover import redrive as redrive_messages
from kryonix.messaging.redrive.unrouted import count_routes, resend
from kryonix.topology.catalog import Catalog
from kryonix.topology.naming import Names

_APPLICATION: Final = "kryonix command"
_CONNECT_TIMEOUT_S: Final = 10.0
_PREFETCH: Final = 100
_DAY_S: Final = 86_400.0

Route = Annotated[str, typer.Argument(metavar="MODULE.ACTION", help="Such as crm.leads.create.")]

app = typer.Typer()


@command(app)
def send(
    route: Route,
    tenant: TenantOptions,
    data: Annotated[
        str | None, typer.Argument(metavar="[JSON]", help="Data as JSON; default: read standard input.")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="Send this file, as JSON or else as bytes.")] = None,
    priority: Annotated[int | None, typer.Option(min=0, max=10, help="Default: the module's priority.")] = None,
    device: Annotated[
        Literal["mobile", "web", "unknown"], typer.Option(metavar="DEVICE", help="mobile, web or unknown.")
    ] = "unknown",
    message_id: Annotated[str | None, typer.Option(help="Message ID; the same ID again is a duplicate.")] = None,
    expires: Annotated[float | None, typer.Option(help="Seconds until the message expires.")] = None,
    header: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Header; repeatable.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, max=_DAY_S, help="Seconds to wait for the broker.")] = 10.0,
    json_output: Json = False,
) -> None:
    """Send a message and wait until the broker has stored it."""
    module, action = _parse_route(route)
    if wrong := [text for text in header or () if not re.fullmatch(r"[^=]+=.*", text, re.DOTALL)]:
        raise InvalidChoice(f"--header {wrong[0]!r} is not a valid NAME=VALUE, such as --header source=import")
    headers = dict(text.split("=", 1) for text in header or ())
    content = _parse_data(data, file)
    catalog, address = load_catalog(tenant.catalog), find_connection(tenant).address

    async def publish() -> SendResult:
        async with await _connect(address, catalog, timeout) as client:
            chosen = client.module(module).priority if priority is None else priority
            message = Outgoing(module, action, content, chosen, device, message_id, expires, headers)
            return await client.send_message(message, timeout=timeout)

    result = run_async(publish())
    text = f"sent {result.message_id} to {result.exchange} [{result.routing_key}], priority {result.priority}"
    print_result(result, escape(text), json_output)


def _parse_route(text: str) -> tuple[str, str]:
    """Split `module.action`; the SDK checks that they exist."""
    module, dot, action = text.partition(".")
    if not (module and dot and action):
        raise InvalidChoice(f"{text!r} is not a valid MODULE.ACTION, such as crm.leads.create")
    return module, action


def _parse_data(text: str | None, file: Path | None) -> Any:
    """Return the data to send: JSON from the argument or standard input, or a file's JSON, else its bytes."""
    if text is not None and file is not None:
        raise InvalidChoice("data and --file are both given. Give one of them")
    if file is not None:
        content = read_bytes(file)
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            return content
    given: bytes | str
    if text is None or text == "-":
        if sys.stdin.isatty():
            err.print("type the data as JSON, then Ctrl-D")
        given = sys.stdin.buffer.read()
    else:
        given = text
    if not given.strip():
        raise InvalidChoice("there is no data. Give it as JSON, on standard input, or with --file")
    try:
        return json.loads(given if isinstance(given, bytes) else given.encode())
    except (ValueError, RecursionError) as error:
        remedy = "Quote text as '\"text\"', or send a file's bytes with --file"
        raise InvalidChoice(f"the data is not JSON: {error}. {remedy}") from error


@command(app)
def consume(
    route: Route,
    tenant: TenantOptions,
    limit: Annotated[int | None, typer.Option(min=1, help="Maximum number of messages.")] = None,
    wait: Annotated[
        float | None,
        typer.Option(min=0.1, max=_DAY_S, help="Stop after this many seconds without a message; default: never."),
    ] = None,
) -> None:
    """Take an action's messages for good, and print each as a line of JSON."""
    module, action = _parse_route(route)
    catalog, address = load_catalog(tenant.catalog), find_connection(tenant).address
    if wait is None and sys.stderr.isatty():
        err.print("waiting for messages; Ctrl-C stops, --wait 5 stops by itself", style="dim")
    taken = run_async(_consume(address, catalog, module, action, limit, wait))
    err.print(f"{taken} message(s) taken")


async def _consume(
    address: Address, catalog: Catalog, module: str, action: str, limit: int | None, wait: float | None
) -> int:
    """Print messages until `limit`, or until none arrives for `wait` seconds. Acknowledges each after printing it."""
    taken = 0
    async with await _connect(address, catalog, _CONNECT_TIMEOUT_S) as client:
        prefetch = _PREFETCH if limit is None else min(limit, _PREFETCH)
        async with client.module(module).stream(action, prefetch=prefetch) as stream:
            while limit is None or taken < limit:
                try:
                    async with asyncio.timeout(wait):
                        item = await anext(stream)
                except TimeoutError:
                    break
                async with item as message:
                    value = _message_json(message)
                    text = json.dumps(value, ensure_ascii=False)
                    try:
                        text.encode(sys.stdout.encoding or "utf-8")
                    except UnicodeEncodeError:  # half a surrogate pair in the data, or a terminal's other encoding
                        text = json.dumps(value)
                    sys.stdout.write(text + "\n")
                    sys.stdout.flush()
                taken += 1
    return taken


async def _connect(address: Address, catalog: Catalog, timeout: float) -> MessagingClient:
    return await MessagingClient.connect_to(address, application=_APPLICATION, timeout=timeout, catalog=catalog)


def _message_json(message: Message) -> dict[str, Any]:
    return {
        "message_id": message.message_id,
        **output.data_json(message.data),
        "attempt": message.attempt,
        "priority": message.priority,
        "sent_at": None if message.sent_at is None else message.sent_at.isoformat(),
        "application": message.application,
        "headers": output.headers_json(message.headers),
        "route": asdict(message.route),
    }


@command(app)
def stats(
    tenant: TenantOptions,
    management_url: ManagementUrl = None,
    module: ModuleFilter = None,
    watch: Annotated[bool, typer.Option("--watch", help="Update the table until interrupted.")] = False,
    interval: Annotated[float, typer.Option(min=0.5, max=_DAY_S, help="Seconds between updates.")] = 2.0,
    all_queues: Annotated[bool, typer.Option("--all", help="Include queues that are not in use.")] = False,
    json_output: Json = False,
) -> None:
    """Show a tenant's queues: depth, consumers and rates."""
    catalog, connection = load_catalog(tenant.catalog), find_connection(tenant, management_url)
    select_routes(catalog, connection.modules, module, None)
    if watch:
        if json_output:
            raise InvalidChoice("--watch and --json are both given. Give one of them")
        try:
            run_async(output.watch_stats(connection.address, catalog, module, all_queues, interval, out))
        except KeyboardInterrupt:
            return
    found = run_async(output.read_queues(connection.address, catalog, module))
    table = output.stats_table(found, connection.address.tenant_id, all_queues, out)
    print_result(found, table, json_output)


@command(app)
def redrive(
    tenant: TenantOptions,
    module: ModuleFilter = None,
    action: ActionFilter = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Maximum number of messages.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the messages; change nothing.")] = False,
    json_output: Json = False,
) -> None:
    """Return dead letters to their original exchange and routing key."""
    catalog, connection = load_catalog(tenant.catalog), find_connection(tenant)
    routes = select_routes(catalog, connection.modules, module, action)
    with output.RedriveProgress(err).running() as progress:
        tallies = run_async(redrive_messages(connection.address, catalog, routes, limit, dry_run, progress.on_tally))
    moved = sum(tally.moved for tally in tallies)
    value = {"dry_run": dry_run, "moved": moved, "queues": tallies}
    print_result(value, output.tallies_table(tallies, connection.address.tenant_id, dry_run, out), json_output)
    if (problem := output.left_behind(tallies)) is not None:
        print_error(problem)
        raise typer.Exit(1)


@command(app)
def unrouted(
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Tenant ID.")],
    stack: Annotated[str, typer.Option("--stack", "-s", help="Stack of the platform.")] = DEFAULT_STACK,
    again: Annotated[bool, typer.Option("--redrive", help="Send the messages again, unchanged.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of messages, oldest first.")] = 1_000,
    json_output: Json = False,
) -> None:
    """Show messages that reached no queue, as the platform's administrator."""
    check_tenant(tenant)
    work = resend if again else count_routes
    try:
        found = run_async(work(stack_outputs(stack), Names(tenant), limit))
    except ServiceUnreachable:
        tenant_outputs(stack, tenant)  # raises for an unknown tenant, with the names of the known ones
        raise
    routes = [{"exchange": e, "routing_key": key, "messages": count} for (e, key), count in found.routes.items()]
    lines = (escape("{messages:>8,}  {exchange} [{routing_key}]".format(**route)) for route in routes)
    print_result({"routes": routes, "redriven": again, "waiting": found.waiting}, lines, json_output)
    if not json_output:
        sent = f"{found.routes.total():,} sent again, " if again else ""
        err.print(f"{sent}{found.waiting:,} message(s) in the unrouted queue of {tenant}")
