"""`kryonix dead-letters`: list, show, redrive, discard and export dead letters."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.markup import escape

from kryonix.cli.connection import (
    ActionFilter,
    ModuleFilter,
    TenantOptions,
    find_connection,
    run_async,
    select_routes,
    stack_outputs,
)
from kryonix.cli.groups import group
from kryonix.cli.messages import redrive
from kryonix.cli.options import DEFAULT_STACK, Json, PlatformOptions, Yes, command, load_catalog
from kryonix.cli.output.console import (
    check_target,
    confirm,
    err,
    out,
    plain,
    print_error,
    print_json,
    print_result,
    unwritable,
)
from kryonix.cli.output.messages import data_json, headers_json
from kryonix.cli.output.tables import Column, responsive_table
from kryonix.cli.output.tenant import UNROUTED, Depth, depths_of
from kryonix.engines.engine import StackSpec
from kryonix.errors import ServiceUnreachable
from kryonix.messaging.configuration import OUTPUTS_VARIABLE, URI_VARIABLE, Address
from kryonix.messaging.encoding import Undecodable, decode, stated_encoding
from kryonix.messaging.redrive.letters import DeadLetter, peek
from kryonix.messaging.redrive.letters import discard as discard_letters
from kryonix.rabbitmq.broker import Broker
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.topology.catalog import Catalog
from kryonix.topology.naming import tenant_of_vhost
from kryonix.topology.objects import QueueState

_PLATFORM_COLUMNS: Final[tuple[Column[Mapping[str, Any]], ...]] = (
    Column("tenant", itemgetter("tenant"), min_width=16),
    Column("cell", itemgetter("cell"), min_width=8, drop_priority=1),
    Column("backlog", itemgetter("backlog"), number=True),
    Column("dead letters", itemgetter("dead_letters"), number=True),
    Column("unrouted", itemgetter("unrouted"), number=True),
    Column("most dead letters in", itemgetter("most"), min_width=16, drop_priority=2),
)
_QUEUE_COLUMNS: Final[tuple[Column[Mapping[str, Any]], ...]] = (
    Column("action", itemgetter("action"), min_width=18),
    Column("dead letters", itemgetter("dead_letters"), number=True),
    Column("oldest", lambda queue: _age(queue["oldest"])),
    Column("reasons", lambda queue: _reasons(queue), min_width=20),
)
_LETTER_COLUMNS: Final[tuple[Column[DeadLetter], ...]] = (
    Column("message id", lambda letter: letter.message_id or "", min_width=18),
    Column("action", lambda letter: f"{letter.module}.{letter.action}", min_width=16),
    Column("reason", lambda letter: letter.reason, min_width=16),
    Column("dead for", lambda letter: _age(letter.died_at)),
    Column("sent", lambda letter: _age(letter.sent_at), drop_priority=2),
    Column("attempts", lambda letter: letter.attempts, number=True),
    Column("redrives", lambda letter: letter.redrives, number=True, drop_priority=1),
)
_PAYLOAD: Final = ("content_type", "content_encoding", "headers", "body")

MessageIds = Annotated[list[str] | None, typer.Option("--id", metavar="ID", help="Only this message; repeatable.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Maximum number of messages.")]

app = group("dead-letters", "List, show, redrive, discard and export dead letters.")
command(app)(redrive)


@command(app, "list")
def list_queues(tenant: TenantOptions, module: ModuleFilter = None, json_output: Json = False) -> None:
    """Show which queues of a tenant have dead letters, and why; without a tenant, who has any or a backlog.

    Reads, and takes nothing. For all tenants it acts as the administrator of the platform (--stack, default: dev).
    """
    from_application = os.environ.get(URI_VARIABLE) or os.environ.get(OUTPUTS_VARIABLE)
    if tenant.tenant is None and tenant.outputs is None and (tenant.stack or not from_application):
        stack = tenant.stack or DEFAULT_STACK
        if "admin_username" in stack_outputs(stack):
            _list_tenants(stack, load_catalog(tenant.catalog), json_output)
            return
    address, _, letters = _peek(tenant, module, None)
    by_queue: defaultdict[str, list[DeadLetter]] = defaultdict(list)
    for letter in letters:
        by_queue[f"{letter.module}.{letter.action}"].append(letter)
    queues = [_queue_json(name, found) for name, found in sorted(by_queue.items())]
    title = f"{address.tenant_id}: {len(letters):,} dead letter(s)"
    table = responsive_table(title, _QUEUE_COLUMNS, queues, out) if queues else f"{address.tenant_id}: no dead letters."
    print_result(queues, table, json_output)


@command(app)
def show(
    tenant: TenantOptions,
    module: ModuleFilter = None,
    action: ActionFilter = None,
    message_id: MessageIds = None,
    limit: Limit = 100,
    payload: Annotated[bool, typer.Option("--payload", help="Print data and headers too, as JSON lines.")] = False,
    json_output: Json = False,
) -> None:
    """Show dead letters with reason, age and attempts. Takes nothing."""
    address, _, letters = _peek(tenant, module, action, message_id, limit)
    if json_output:
        print_json([_letter_json(letter, payload=payload) for letter in letters])
    elif payload:
        sys.stdout.writelines(map(_line, letters))
    else:
        title = f"{address.tenant_id}: {len(letters):,} dead letter(s)"
        out.print(responsive_table(title, _LETTER_COLUMNS, letters, out) if letters else f"{title}.")
    if limit is not None and len(letters) == limit:
        err.print(f"the first {limit:,} are shown; --limit shows more")


@command(app)
def export(
    tenant: TenantOptions,
    module: ModuleFilter = None,
    action: ActionFilter = None,
    message_id: MessageIds = None,
    output: Annotated[
        Path | None, typer.Option(help="Append to this file, made with mode 600; default: standard output.")
    ] = None,
) -> None:
    """Print dead letters with data and headers, each as a line of JSON. Takes nothing."""
    if output is not None:
        check_target(output)
    _, _, letters = _peek(tenant, module, action, message_id)
    if output is None:
        sys.stdout.writelines(map(_line, letters))
    else:
        with _appended(output) as write:
            for letter in letters:
                write(letter, {})
    err.print(f"{len(letters):,} dead letter(s) exported")


@command(app)
def discard(
    tenant: TenantOptions,
    module: ModuleFilter = None,
    action: ActionFilter = None,
    message_id: MessageIds = None,
    limit: Limit = None,
    output: Annotated[
        Path | None, typer.Option(help="Append the record to this file; default: TENANT.discarded.letters.jsonl.")
    ] = None,
    yes: Yes = False,
    json_output: Json = False,
) -> None:
    """Delete dead letters for good, after a question with their counts.

    Each is first written, with data and headers, to a record with mode 600. Letters that die meanwhile stay.
    """
    address, catalog, letters = _peek(tenant, module, action, message_id, limit)
    if not letters:
        print_result({"discarded": 0, "record": None}, f"{address.tenant_id}: no dead letters to discard.", json_output)
        return
    record = output or Path(f"{address.tenant_id}.discarded.letters.jsonl")
    check_target(record)
    counts = Counter(f"{letter.module}.{letter.action}" for letter in letters)
    for name, count in sorted(counts.items()):
        err.print(escape(f"{count:>8,}  {name}"), soft_wrap=True)
    if not yes:
        confirm("dead-letters discard", f"Discard {len(letters):,} dead letter(s) of tenant {address.tenant_id!r}?")
    with _appended(record) as write:
        stamp = {"discarded_at": datetime.now(UTC).isoformat(timespec="seconds"), "discarded_by": address.username}
        count = run_async(discard_letters(address, catalog, letters, lambda letter: write(letter, stamp)))
    text = f"{count:,} dead letter(s) of {address.tenant_id} discarded; recorded in {record}"
    print_result({"discarded": count, "record": str(record)}, escape(text), json_output)


def _peek(
    options: TenantOptions,
    module: str | None,
    action: str | None,
    ids: Sequence[str] | None = None,
    limit: int | None = None,
) -> tuple[Address, Catalog, list[DeadLetter]]:
    """Return the tenant's address, the catalog, and the selected dead letters."""
    catalog, connection = load_catalog(options.catalog), find_connection(options)
    routes = select_routes(catalog, connection.modules, module, action)
    letters = run_async(peek(connection.address, catalog, routes, ids or (), limit))
    return connection.address, catalog, letters


def _list_tenants(stack: str, catalog: Catalog, json_output: bool) -> None:
    """Print the tenants that have messages, those with the most dead letters first."""
    from kryonix.cli.site import open_site

    site = open_site(PlatformOptions(stack=stack))
    shown: list[dict[str, Any]] = []
    tenants, problems = 0, []
    stacks = {cell.stack: name for name, cell in site.cells.cells.items()}  # several cells may share a platform
    for stack_name, cell in stacks.items():
        try:
            queues = Broker.of(site.engine.outputs(StackSpec(name=stack_name))).queues()
        except BrokerUnavailable as error:
            problems.append(f"cell {cell!r}: {error}")
            continue
        by_tenant: defaultdict[str, list[QueueState]] = defaultdict(list)
        for queue in queues:
            if (tenant := tenant_of_vhost(queue.vhost)) is not None:
                by_tenant[tenant].append(queue)
        tenants += len(by_tenant)
        shown += [
            _tenant_json(tenant, cell, depths)
            for tenant, found in by_tenant.items()
            if (depths := depths_of(found, tenant, catalog))
        ]
    shown.sort(key=lambda each: (-each["dead_letters"], -each["backlog"], each["tenant"]))
    title = f"{len(shown)} of {tenants} tenant(s) have messages"
    table = responsive_table(title, _PLATFORM_COLUMNS, shown, out) if shown else f"{tenants} tenant(s), no messages."
    if tenants or json_output or not problems:
        print_result(shown, table, json_output)
    for problem in problems:
        print_error(problem)
    if problems:
        raise typer.Exit(ServiceUnreachable.exit_status)


def _tenant_json(tenant: str, cell: str, depths: Mapping[str, Depth]) -> dict[str, Any]:
    most = max(depths, key=lambda name: depths[name].dead_letters)
    unrouted = depths.get(UNROUTED, Depth()).backlog
    return {
        "tenant": tenant,
        "cell": cell,
        "backlog": sum(depth.backlog for depth in depths.values()) - unrouted,
        "dead_letters": sum(depth.dead_letters for depth in depths.values()),
        "unrouted": unrouted,
        "most": most if depths[most].dead_letters else "",
    }


def _queue_json(name: str, letters: Sequence[DeadLetter]) -> dict[str, Any]:
    times = [time for letter in letters if (time := letter.died_at or letter.sent_at)]
    reasons = Counter(letter.reason for letter in letters)
    return {
        "action": name,
        "dead_letters": len(letters),
        "oldest": min(times, default=None),
        "reasons": dict(reasons.most_common()),
    }


def _reasons(queue: Mapping[str, Any]) -> str:
    return "; ".join(f"{count:,} {reason}" for reason, count in list(queue["reasons"].items())[:5])


def _letter_json(letter: DeadLetter, *, payload: bool) -> dict[str, Any]:
    names = [field.name for field in fields(letter) if payload or field.name not in _PAYLOAD]
    shown = {"message_id": letter.message_id, **{name: getattr(letter, name) for name in names}}
    if payload:
        shown |= {"headers": headers_json(letter.headers), **_data(letter)}
        del shown["body"]
    return shown


def _data(letter: DeadLetter) -> dict[str, Any]:
    """Return the decoded data, or the bytes as they are."""
    try:
        encoding = stated_encoding(letter.headers, letter.content_encoding)
        return data_json(decode(letter.body, letter.content_type, encoding))
    except Undecodable as error:
        return {"body_base64": base64.b64encode(letter.body).decode(), "undecodable": str(error)}


def _line(letter: DeadLetter, stamp: Mapping[str, str] | None = None) -> str:
    return json.dumps({**(stamp or {}), **_letter_json(letter, payload=True)}, default=plain) + "\n"


@contextmanager
def _appended(file: Path) -> Iterator[Callable[[DeadLetter, Mapping[str, str]], None]]:
    """Yield a function that appends a letter to a private file, and returns once it is on the disk."""
    check_target(file)
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise unwritable(file, error) from error
    with os.fdopen(handle, "a", encoding="utf-8") as opened:

        def write(letter: DeadLetter, stamp: Mapping[str, str]) -> None:
            try:
                opened.write(_line(letter, stamp))
                opened.flush()
                os.fsync(opened.fileno())
            except OSError as error:
                raise unwritable(file, error) from error

        yield write


def _age(moment: datetime | None) -> str:
    """Return the time since a moment in its largest unit, or `?`."""
    if moment is None:
        return "?"
    seconds = max(int((datetime.now(UTC) - moment).total_seconds()), 0)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
