"""`kryonix cluster`: the nodes of a platform's broker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any, Final

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from kryonix.certificates.listeners import listener_of
from kryonix.certificates.served import CertificateUnreadable
from kryonix.checks.certificates import expires_soon
from kryonix.cli import cluster_grow, cluster_roll, site
from kryonix.cli.groups import group
from kryonix.cli.options import Json, StackOptions, command
from kryonix.cli.output.console import foreign, out, print_result
from kryonix.cli.output.tables import Column, responsive_table
from kryonix.cluster.state import ClusterState, NodeState, ReplicatedQueue, read_state
from kryonix.rabbitmq.broker import Broker

_UNHEALTHY: Final = 1
_MIB: Final = 2**20
_SHOWN: Final = 20
_NODE_COLUMNS: Final[tuple[Column[Mapping[str, Any]], ...]] = (
    Column("node", itemgetter("name"), min_width=16),
    Column("state", lambda node: _state_text(node)),
    Column("version", lambda node: node["version"] or "?"),
    Column("up for", lambda node: _uptime_text(node["uptime_s"]), drop_priority=3),
    Column("leaders", itemgetter("leaders"), number=True),
    Column("memory MiB", lambda node: _mebibytes(node["memory"]), number=True, drop_priority=1),
    Column("disk free MiB", lambda node: _mebibytes(node["disk_free"]), number=True, drop_priority=2),
    Column("certificate until", lambda node: _day(node["certificate_expires"]), drop_priority=4),
)
_QUEUE_COLUMNS: Final[tuple[Column[Mapping[str, Any]], ...]] = (
    Column("vhost", lambda queue: foreign(queue["vhost"]), min_width=12),
    Column("queue", lambda queue: foreign(queue["name"]), min_width=16),
    Column("type", itemgetter("type"), drop_priority=1),
    Column("members", lambda queue: f"{len(queue['online'])} online of {len(queue['members'])}"),
    Column("on", lambda queue: ", ".join(queue["members"]), min_width=12, drop_priority=2),
)

app = group("cluster", "The nodes of the broker: their state, replacing them one by one, adding nodes.")
app.add_typer(cluster_roll.app)
app.add_typer(cluster_grow.app)


@command(app)
def status(target: StackOptions, json_output: Json = False) -> None:
    """Show the broker's nodes, and the queues with too few members.

    Any node that answers is asked. Exit status: 0 if all is well, 1 if not, 3 if no node answers.
    """
    deployment = site.deployment_of(target)
    outputs = site.outputs_with_platform(target, deployment)
    with site.Outage(target).explained(), Broker.of(outputs) as broker:
        state = read_state(broker)
    found = status_json(state, outputs, _certificates(outputs))
    print_result(found, status_report(found, out), json_output)
    if not found["healthy"]:
        raise typer.Exit(_UNHEALTHY)


def status_json(
    state: ClusterState, outputs: Mapping[str, Any], certificates: Mapping[str, datetime | None]
) -> dict[str, Any]:
    """Return a cluster's state for programs. `certificates` has the expiry by node number, None if it was not read."""
    leaders = state.leaders()
    recorded = {entry["name"]: entry for entry in outputs.get("broker_nodes") or ()}
    problems = [*state.problems(), *_certificate_problems(certificates)]
    return {
        "healthy": not problems,
        "problems": problems,
        "nodes": [
            _node_json(node, leaders.get(node.name, 0), recorded.get(node.name, {}), certificates)
            for node in state.nodes
        ],
        "queues": len(state.queues),
        "members_wanted": state.members_wanted,
        "short_queues": [_queue_json(queue) for queue in state.short()],
        "feature_flags_not_enabled": list(state.disabled_flags),
    }


def _node_json(
    node: NodeState, leaders: int, recorded: Mapping[str, Any], certificates: Mapping[str, datetime | None]
) -> dict[str, Any]:
    """Return a node for programs; a cluster that Kryonix did not make has no containers."""
    return {
        "name": node.name,
        "running": node.running,
        "drained": node.drained,
        "version": node.version,
        "uptime_s": node.uptime_s,
        "alarms": list(node.alarms),
        "memory": node.memory,
        "disk_free": node.disk_free,
        "leaders": leaders,
        "container": recorded.get("container"),
        "image": recorded.get("image"),
        "certificate_expires": certificates.get(str(recorded.get("management"))),
    }


def _queue_json(queue: ReplicatedQueue) -> dict[str, Any]:
    return {
        "vhost": queue.vhost,
        "name": queue.name,
        "type": queue.type,
        "leader": queue.leader,
        "members": sorted(queue.members),
        "online": sorted(queue.online),
    }


def _certificates(outputs: Mapping[str, Any]) -> dict[str, datetime | None]:
    """Return when the certificate of each management API with TLS expires; None for one that does not answer."""
    found: dict[str, datetime | None] = {}
    for url in outputs.get("management_urls") or [outputs.get("management_url", "")]:
        if listener := listener_of(url):
            found[url] = None
            with suppress(CertificateUnreadable):
                found[url] = listener.served().expires
    return found


def _certificate_problems(certificates: Mapping[str, datetime | None]) -> list[str]:
    now = datetime.now(UTC)
    late = {
        listener_of(url): expires for url, expires in certificates.items() if expires and expires_soon(expires, now)
    }
    return [
        f"the certificate of {listener} expires on {expires:%Y-%m-%d}; "
        "`kryonix certificates list` says why it was not renewed"
        for listener, expires in late.items()
    ]


def status_report(found: Mapping[str, Any], console: Console) -> Iterator[RenderableType]:
    """Yield the nodes, the queues short of members, and what else is wrong."""
    running = sum(node["running"] for node in found["nodes"])
    title = f"{running} of {len(found['nodes'])} node(s) running, {found['queues']:,} quorum queues and streams"
    yield responsive_table(title, _NODE_COLUMNS, found["nodes"], console)
    if short := found["short_queues"]:
        title = f"{len(short):,} short of members ({found['members_wanted']} wanted)"
        if len(short) > _SHOWN:
            title += f", the first {_SHOWN}; --json prints all"
        yield responsive_table(title, _QUEUE_COLUMNS, short[:_SHOWN], console)
    yield from (f"[red]problem[/red] {foreign(problem)}" for problem in found["problems"])
    if found["healthy"]:
        yield "Healthy."


def _state_text(node: Mapping[str, Any]) -> Text:
    if not node["running"]:
        return Text("down", "red")
    if node["alarms"]:
        return Text(f"{' and '.join(node['alarms'])} alarm", "red")
    return Text("maintenance", "yellow") if node["drained"] else Text("running", "green")


def _uptime_text(seconds: int | None) -> str:
    return "?" if seconds is None else str(timedelta(seconds=seconds))


def _mebibytes(size: int | None) -> int | None:
    return None if size is None else size // _MIB


def _day(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d}"
