"""The commands for a tenant's messages. What stands behind them is imported when one is run: `plan` stays fast."""

from __future__ import annotations

import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.markup import escape

from kryonix.cli.console import err, out, print_json
from kryonix.cli.messages.acting import Asked, acting
from kryonix.cli.options import Json
from kryonix.errors import InvalidChoice
from kryonix.topology.naming import TENANT_ID, Names

if TYPE_CHECKING:
    from kryonix.cli.messages.access import Access

__all__ = ["app"]

app = typer.Typer()

_DAY_S = 86_400.0

Module = Annotated[Optional[str], typer.Option(help="Only this module.")]
Action = Annotated[Optional[str], typer.Option(help="Only this action of the module.")]
RouteArgument = Annotated[str, typer.Argument(metavar="MODULE.ACTION", help="As in crm.leads.create.")]


@app.command()
@acting()
def send(
    asked: Asked,
    route: RouteArgument,
    data: Annotated[
        Optional[str], typer.Argument(metavar="[JSON]", help="The data; from stdin where left out.")
    ] = None,
    file: Annotated[Optional[Path], typer.Option(help="Send this file: as JSON, or its bytes.")] = None,
    priority: Annotated[Optional[int], typer.Option(min=0, max=10, help="The module's own where left out.")] = None,
    device: Annotated[str, typer.Option(help="mobile, web or unknown.")] = "unknown",
    message_id: Annotated[Optional[str], typer.Option(help="The same id again is the same message.")] = None,
    expires: Annotated[Optional[float], typer.Option(help="Seconds it is worth delivering.")] = None,
    header: Annotated[Optional[list[str]], typer.Option(help="NAME=VALUE, any number of times.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, max=_DAY_S, help="Seconds to wait for the broker.")] = 10.0,
    json_output: Json = False,
) -> None:
    """Send a message and wait until the broker has stored it."""
    from kryonix.cli.messages import traffic as messages
    from kryonix.messaging import Outgoing

    module, action = messages.parse_route(route)
    if device not in ("mobile", "web", "unknown"):
        raise InvalidChoice(f"--device {device!r} is none of mobile, web, unknown")
    headers, content = messages.parse_headers(header or []), messages.parse_data(data, file)
    outgoing = Outgoing(module, action, content, 5, device, message_id, expires, headers)  # type: ignore[arg-type]
    products, address = asked.products(), _access(asked).address
    result: Any = _run(messages.send(address, products, outgoing, priority, timeout))
    if json_output:
        print_json(asdict(result))
        return
    out.print(f"sent {result.message_id} to {result.exchange} \\[{result.routing_key}], priority {result.priority}")


@app.command()
@acting()
def consume(
    asked: Asked,
    route: RouteArgument,
    limit: Annotated[Optional[int], typer.Option(min=1, help="Messages to take at most.")] = None,
    wait: Annotated[
        Optional[float], typer.Option(min=0.1, max=_DAY_S, help="End when none has come for so many seconds.")
    ] = None,
) -> None:
    """Take an action's messages, for good, and print each as a line of JSON."""
    from kryonix.cli.messages import traffic as messages

    module, action = messages.parse_route(route)
    products, address = asked.products(), _access(asked).address
    taken = _run(messages.consume(address, products, module, action, limit, wait))
    err.print(f"{taken} message(s) taken")


@app.command()
@acting(figures=True)
def stats(
    asked: Asked,
    module: Module = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show them live.")] = False,
    interval: Annotated[float, typer.Option(min=0.5, max=_DAY_S, help="Seconds between two looks.")] = 2.0,
    all_queues: Annotated[bool, typer.Option("--all", help="Also queues that are not in use.")] = False,
    json_output: Json = False,
) -> None:
    """Show the figures of a tenant's queues."""
    from kryonix.cli.messages import queue_figures
    from kryonix.cli.messages.routes import select_routes

    products, access = asked.products(), _access(asked)
    select_routes(products, access.modules, module, None)
    if watch:
        if json_output:
            raise InvalidChoice("--watch and --json are both given. Give one of them")
        try:
            _run(queue_figures.watch(access.address, products, module, all_queues, interval, out))
        except KeyboardInterrupt:
            return
    found: Any = _run(queue_figures.read(access.address, products, module))
    if json_output:
        print_json(queue_figures.figures_json(found))
    else:
        out.print(queue_figures.figures_table(found, access.address.tenant_id, all_queues, out))


@app.command()
@acting()
def redrive(
    asked: Asked,
    module: Module = None,
    action: Action = None,
    limit: Annotated[Optional[int], typer.Option(min=1, help="Messages to put back at most.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and change nothing.")] = False,
    json_output: Json = False,
) -> None:
    """Put dead letters back where they came from: original exchange and routing key."""
    from kryonix.cli.messages import redrive_display as shown
    from kryonix.cli.messages.routes import select_routes
    from kryonix.messaging.redrive.redrive import redrive as work

    products, access = asked.products(), _access(asked)
    routes = select_routes(products, access.modules, module, action)
    display = shown.RedriveDisplay(err)
    with display.running():
        tallies: Any = _run(work(access.address, products, routes, limit, dry_run, display.take))
    if json_output:
        print_json(shown.tallies_json(tallies, dry_run))
    else:
        out.print(shown.tallies_table(tallies, access.address.tenant_id, dry_run, out))
    if (left := shown.left_behind(tallies)) is not None:
        err.print(f"[bold red]error:[/bold red] {escape(left)}", soft_wrap=True)
        raise typer.Exit(1)


@app.command()
def unrouted(
    tenant: Annotated[str, typer.Argument(metavar="TENANT")],
    stack: Annotated[str, typer.Option("--stack", "-s", help="The platform's stack.")] = "dev",
    again: Annotated[bool, typer.Option("--redrive", help="Send them again as they were.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Messages at most, the oldest first.")] = 1000,
    json_output: Json = False,
) -> None:
    """Show where messages were sent that no queue wanted, as the platform's administrator."""
    from kryonix.cli.messages import unrouted as messages
    from kryonix.cli.messages.access import stack_outputs

    if not re.fullmatch(TENANT_ID, tenant):
        raise InvalidChoice(f"{tenant[:80]!r} is not a tenant's id, which has the form {TENANT_ID}")
    work = messages.redrive if again else messages.look
    found: messages.Found = _run(work(stack_outputs(stack), Names(tenant), limit))
    routes = [{"exchange": e, "routing_key": key, "messages": count} for (e, key), count in found.routes.items()]
    if json_output:
        print_json({"routes": routes, "redriven": again, "waiting": found.waiting})
        return
    for route in routes:
        out.print(escape("{messages:>8,}  {exchange} [{routing_key}]".format(**route)), soft_wrap=True)
    done = f"{found.routes.total():,} sent again, " if again else ""
    err.print(f"{done}{found.waiting:,} message(s) in the unrouted queue of {tenant}")


@app.command()
@acting(figures=True)
def worker(
    asked: Asked,
    handlers: Annotated[
        Optional[str], typer.Argument(metavar="MODULE:HANDLERS", help="A mapping of module.action to async functions.")
    ] = None,
    module: Module = None,
    action: Action = None,
    plan: Annotated[Optional[str], typer.Option(help="The tenant's plan, where no outputs say it.")] = None,
    max_consumers: Annotated[Optional[int], typer.Option(min=1, help="Fewer per queue than the plan allows.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=10_000, help="Messages a consumer handles at a time.")] = 10,
    prefetch: Annotated[
        Optional[int], typer.Option(min=1, max=65_535, help="Twice the concurrency where left out.")
    ] = None,
    handler_timeout: Annotated[float, typer.Option(min=0.1, max=_DAY_S, help="Seconds; more is a failure.")] = 60.0,
    interval: Annotated[float, typer.Option(min=0.5, max=_DAY_S, help="Seconds between two decisions.")] = 5.0,
    window: Annotated[
        int, typer.Option(min=0, max=3_600, help="Seconds a queue is low before a consumer is ended.")
    ] = 120,
    drain: Annotated[float, typer.Option(min=0, max=_DAY_S, help="Seconds that handlers have to finish.")] = 30.0,
    metrics_port: Annotated[Optional[int], typer.Option(min=1, max=65535, help="Serve Prometheus here.")] = None,
    metrics_host: Annotated[str, typer.Option(help="The address to serve them on.")] = "127.0.0.1",
    keda: Annotated[
        bool, typer.Option("--keda", help="Print KEDA ScaledObjects of the plan, and run nothing.")
    ] = False,
    namespace: Annotated[str, typer.Option(help="Of the KEDA objects.")] = "default",
    tenants: Annotated[Path, typer.Option(help="For --keda without outputs: the list of tenants.")] = Path(
        "tenants.yaml"
    ),
) -> None:
    """Run handlers, with as many consumers as the queues' depth asks for and the plan allows."""
    from kryonix.cli import worker as command

    choice = command.Choice(asked, asked.products(), handlers, module, action, plan, max_consumers)
    if keda:
        sys.stdout.write(command.keda(choice, tenants, window, namespace))
        return
    from kryonix.worker.pool import ConsumerOptions

    consumers = ConsumerOptions(concurrency, prefetch or 2 * concurrency, handler_timeout, drain)
    _run(command.work(choice, interval, window, consumers, metrics_host, metrics_port))


def _access(asked: Asked) -> Access:
    from kryonix.cli.messages.access import find_access
    from kryonix.cli.messages.event_loop import translated

    with translated():
        return find_access(asked)


def _run(work: Any) -> Any:
    from kryonix.cli.messages.event_loop import run

    return run(work)
