"""One tenant on one screen: desired state, use of its plan, users, messages and operations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.markup import escape

from kryonix.cli.output.tables import Column, responsive_table
from kryonix.fleet.members import Member
from kryonix.messaging.stats import read_stats
from kryonix.topology.catalog import Catalog
from kryonix.topology.naming import Names
from kryonix.topology.objects import QueueState

if TYPE_CHECKING:
    from kryonix.signup.operations import Operation

_GROUP_COLUMNS: Final = (
    Column("messages of", min_width=20),
    Column("backlog", number=True),
    Column("dead letters", number=True),
)
_OPERATION_COLUMNS: Final = (
    Column("operation"),
    Column("status"),
    Column("requested", min_width=16),
    Column("problem", min_width=14, drop_priority=1),
)
UNROUTED: Final = "unrouted"


@dataclass(slots=True)
class Depth:
    """Messages of one action, or of the queues beside the actions."""

    backlog: int = 0
    """Messages waiting for a consumer or a retry, or being handled."""
    dead_letters: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantView:
    """The content of `tenant show`. `users` and `depths` are None if the broker does not answer."""

    state: Mapping[str, Any]
    """The state as JSON."""
    member: Member
    users: Sequence[str] | None
    depths: Mapping[str, Depth] | None
    operations: Sequence[Operation]


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


def view_json(view: TenantView) -> dict[str, Any]:
    """Return the tenant without secrets."""
    member = view.member
    depths = None if view.depths is None else {name: asdict(depth) for name, depth in view.depths.items()}
    return {
        **view.state,
        "managed_by": member.managed_by,
        "cell": member.state.cell,
        "vhost": member.vhost,
        "users": view.users,
        "use": {name: {"now": now, "allowed": allowed} for name, (now, allowed) in _limits(member).items()},
        "pending": list(member.pending),
        "messages": depths,
        "operations": [
            {
                "id": str(operation.id),
                "kind": operation.kind,
                "status": operation.status,
                "created_at": operation.created_at.isoformat(),
                "ended_at": operation.ended_at and operation.ended_at.isoformat(),
                "problem": operation.problem,
            }
            for operation in view.operations
        ],
    }


def print_tenant(view: TenantView, console: Console) -> None:
    """Print the fields, then the messages and the operations, if there are any."""
    member, state = view.member, view.member.state
    use = [
        f"{'?' if now is None else f'{now:,}'} of {allowed} {name}" for name, (now, allowed) in _limits(member).items()
    ]
    fields = {
        "tenant": state.cliente_id,
        "status": state.stage,
        "managed by": member.managed_by,
        "plan": state.plan,
        "modules": ", ".join(state.modules),
        "cell": state.cell,
        "vhost": member.vhost,
        "users": "?" if view.users is None else ", ".join(view.users),
        "use": ", ".join(use),
        "pending": "; ".join(member.pending),
    }
    for name, text in fields.items():
        if text:
            console.print(f"[bold]{name:<12}[/bold]{escape(text)}", soft_wrap=True)
    if view.depths:
        total: Counter[str] = Counter()
        for depth in view.depths.values():
            total.update(asdict(depth))
        title = f"backlog {total['backlog']:,}, dead letters {total['dead_letters']:,}"
        rows = ([escape(name), f"{d.backlog:,}", f"{d.dead_letters:,}"] for name, d in view.depths.items())
        console.print(responsive_table(title, _GROUP_COLUMNS, rows, console))
    elif view.depths is not None:
        console.print("No messages.")
    if view.operations:
        rows = (
            [
                each.kind,
                each.status,
                f"{each.created_at:%Y-%m-%d %H:%M %Z}",
                escape(str((each.problem or {}).get("title", ""))),
            ]
            for each in view.operations
        )
        console.print(responsive_table("last operations over HTTP", _OPERATION_COLUMNS, rows, console))


def _operation_row(operation: Operation) -> list[str]:
    problem = str((operation.problem or {}).get("title", ""))
    return [operation.kind, operation.status, f"{operation.created_at:%Y-%m-%d %H:%M %Z}", escape(problem)]


def _limits(member: Member) -> dict[str, tuple[int | None, int | None]]:
    use = member.use
    return {
        "queues": (None if use is None else use.queues, member.max_queues),
        "connections": (None if use is None else use.connections, member.max_connections),
    }
