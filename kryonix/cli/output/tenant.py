"""One tenant on one screen: desired state, use of its plan, users, messages and operations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kryonix.cli.output.tables import Column, figure, responsive_table
from kryonix.fleet.members import Member
from kryonix.messaging.stats import read_stats
from kryonix.topology.catalog import Catalog
from kryonix.topology.naming import Names
from kryonix.topology.objects import QueueState

if TYPE_CHECKING:
    from kryonix.signup.operations import Operation

_OPERATION_COLUMNS: Final[tuple[Column[Mapping[str, Any]], ...]] = (
    Column("operation", itemgetter("kind")),
    Column("status", itemgetter("status")),
    Column("requested", lambda operation: f"{operation['created_at']:%Y-%m-%d %H:%M %Z}", min_width=16),
    Column(
        "problem",
        lambda operation: str((operation["problem"] or {}).get("title", "")),
        min_width=14,
        drop_priority=1,
    ),
)
_OPERATION_FIELDS: Final = ("kind", "status", "created_at", "ended_at", "problem")
UNROUTED: Final = "unrouted"


@dataclass(slots=True)
class Depth:
    """Messages of one action, or of the queues beside the actions."""

    backlog: int = 0
    """Messages waiting for a consumer or a retry, or being handled."""
    dead_letters: int = 0


_DEPTH_COLUMNS: Final[tuple[Column[tuple[str, Depth]], ...]] = (
    Column("messages of", lambda held: held[0], min_width=20),
    Column("backlog", lambda held: held[1].backlog, number=True),
    Column("dead letters", lambda held: held[1].dead_letters, number=True),
)


def depths_of(queues: Iterable[QueueState], tenant: str, catalog: Catalog) -> dict[str, Depth]:
    """Return the messages of each action that has any, and of other queues, `unrouted` among them."""
    found: dict[str, Depth] = {}
    for queue in queues:
        if not queue.messages:
            continue
        stats = read_stats({"name": queue.name, "messages": queue.messages}, Names(tenant), catalog)
        other = UNROUTED if stats.kind == UNROUTED else queue.name
        depth = found.setdefault(f"{stats.module}.{stats.action}" if stats.module else other, Depth())
        if stats.kind == "dead-letter":
            depth.dead_letters += stats.depth
        else:
            depth.backlog += stats.depth
    return dict(sorted(found.items()))


def tenant_json(
    state: Mapping[str, Any],
    member: Member,
    users: Sequence[str] | None,
    depths: Mapping[str, Depth] | None,
    operations: Sequence[Operation],
) -> dict[str, Any]:
    """Return a tenant without secrets. `users` and `depths` are None if the broker does not answer."""
    use = member.use
    return {
        **state,
        "managed_by": member.managed_by,
        "cell": member.state.cell,
        "vhost": member.vhost,
        "users": users,
        "use": {
            "queues": {"now": use.queues if use else None, "allowed": member.max_queues},
            "connections": {"now": use.connections if use else None, "allowed": member.max_connections},
        },
        "pending": list(member.pending),
        "messages": depths,
        "operations": [
            {"id": str(operation.id), **{name: getattr(operation, name) for name in _OPERATION_FIELDS}}
            for operation in operations
        ],
    }


def tenant_report(tenant: Mapping[str, Any], console: Console) -> Iterator[str | Table]:
    """Yield the fields of a tenant's JSON, then the messages and the operations, if there are any."""
    notify = tenant["notify"] or {}
    use = [f"{figure(count['now'])} of {count['allowed']} {name}" for name, count in tenant["use"].items()]
    fields = {
        "tenant": tenant["id"],
        "status": tenant["status"],
        "managed by": tenant["managed_by"],
        "plan": tenant["plan"],
        "modules": ", ".join(tenant["modules"]),
        "cell": tenant["cell"],
        "vhost": tenant["vhost"],
        "users": "?" if tenant["users"] is None else ", ".join(tenant["users"]),
        "login": "" if tenant["auth"] == "password" else tenant["auth"],
        "use": ", ".join(use),
        "notify": ", ".join(filter(None, [notify.get("webhook"), *notify.get("email", ())])),
        "pending": "; ".join(tenant["pending"]),
    }
    for name, text in fields.items():
        if text:
            yield f"[bold]{name:<12}[/bold]{escape(text)}"
    if depths := tenant["messages"]:
        backlog = sum(depth.backlog for depth in depths.values())
        dead_letters = sum(depth.dead_letters for depth in depths.values())
        title = f"backlog {backlog:,}, dead letters {dead_letters:,}"
        yield responsive_table(title, _DEPTH_COLUMNS, depths.items(), console)
    elif depths is not None:
        yield "No messages."
    if operations := tenant["operations"]:
        yield responsive_table("last operations over HTTP", _OPERATION_COLUMNS, operations, console)
