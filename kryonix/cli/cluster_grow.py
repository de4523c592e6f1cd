"""`kryonix cluster grow`: add nodes to a platform's broker."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Final

import typer
from rich.markup import escape

from kryonix.cli.cluster_roll import all_of, fetch_image, refuse, roll_nodes
from kryonix.cli.cluster_stack import ClusterStack
from kryonix.cli.options import Json, StackOptions, Yes, command
from kryonix.cli.output.changes import change_lines
from kryonix.cli.output.console import confirm, err, out, print_report, print_result, refuse_without_terminal
from kryonix.cli.output.progress import Live
from kryonix.cluster.errors import ClusterNotReady, OperationStopped
from kryonix.cluster.growth import Room, refuse_crowded, target_size
from kryonix.cluster.members import add_members, add_replicas
from kryonix.cluster.nodes import RecordedNode
from kryonix.cluster.roll import due_nodes, finish, in_order, wait_for
from kryonix.cluster.state import ClusterState, read_state
from kryonix.engines.containers import containers
from kryonix.errors import KryonixError
from kryonix.rabbitmq.broker import Broker

_SIZE: Final = "kryonix:brokerNodes"
_IMAGES: Final = ("kryonix:brokerImage", "kryonix:productImage")
"""Those of a node, and of the keeper that each machine has."""
_FORMED_S: Final = 300
_BACK_S: Final = 60
"""Seconds for a node that a killed run has just restarted."""
_FAILED: Final = 1

app = typer.Typer()


@command(app)
def grow(
    target: StackOptions,
    nodes: Annotated[
        int | None, typer.Option("--nodes", metavar="N", help="Number of nodes to have: 3 (default) or 5.")
    ] = None,
    yes: Yes = False,
    json_output: Json = False,
) -> None:
    """Add nodes to the broker, and give every quorum queue and stream its members on them. Messages stay.

    Grows to 3 nodes, or with --nodes 5 to 5. A broker of one node restarts once on the way. Interrupted at any point,
    the same command continues.

    Exit status: 0 done; 1 failed midway, or queues still lack members; 2 refused before anything was changed.
    """
    if not yes:
        refuse_without_terminal("cluster grow")
    with ClusterStack.alone(target) as stack:
        before = max(len(stack.nodes), 1)
        size = target_size(before, nodes)
        if size > before:
            _add_nodes(stack, before, size, yes=yes)
        left, members_s = _complete(stack.read_again(), size, added=size > before)
    value = {"nodes": size, "added": size - before, "queues_short": left, "members_s": round(members_s, 1)}
    print_result(value, _report(size, size - before, left), json_output)
    if left:
        raise typer.Exit(_FAILED)


def _add_nodes(stack: ClusterStack, before: int, size: int, *, yes: bool) -> None:
    """Make the containers of the new nodes, and wait until all nodes run in one cluster."""
    first = _first(stack)
    if before > 1:  # a killed run may have left a single node stopped
        with stack.broker() as broker:
            if problem := _absent(stack, read_state(broker)):
                raise ClusterNotReady(f"{problem}. New nodes need all that exist: start it. Nothing has been changed")
    wanted = stack.with_settings({_SIZE: size})
    allowed = f"grow:{size}"
    summary = wanted.preview(allowed)
    hosts = wanted.setting("kryonix:hosts")
    rooms = Room.of(stack.deployment, first, size, hosts)
    refuse_crowded(rooms, size)
    for room in rooms:
        for image in _IMAGES if hosts else _IMAGES[:1]:
            room.host.fetch(str(wanted.setting(image)))
    if not yes:
        print_report(change_lines(summary.steps), out)
        err.print(_warning(before, first.container), soft_wrap=True, markup=False)
        confirm("cluster grow", f"Grow the broker of stack {stack.spec.name!r} from {before} to {size} nodes?")
    wanted.write_config()
    try:
        wanted.up(allowed)
    except KryonixError as error:
        raise _stopped(size, error) from error


def _first(stack: ClusterStack) -> RecordedNode:
    """Return the first node; an older version's outputs don't have it."""
    if stack.nodes:
        return stack.nodes[0]
    suffix = "-rabbitmq"
    name = next((each for each in containers(stack.deployment) if each.endswith(suffix)), "")
    if not name:
        raise ClusterNotReady(f"stack {stack.spec.name!r} has no container of a broker. Run `kryonix up` on it first")
    return RecordedNode(number=1, name=f"rabbit@{name}", container=name, docker="")


def _complete(stack: ClusterStack, size: int, *, added: bool) -> tuple[Mapping[str, str], float]:
    """Add the members, roll out what the old nodes lack, and spread the leaders. `added`: there are new nodes.

    Return the queues that are still short of members, and the seconds until all others had theirs. Raises
    OperationStopped once anything has been changed, and before that what keeps it from being done.
    """
    changed = added
    with stack.broker() as broker:
        try:
            if problem := wait_for(broker, lambda state: _absent(stack, state), _FORMED_S if added else _BACK_S):
                raise ClusterNotReady(f"{problem}. `docker logs` of their containers say why")
            changed = added or bool(read_state(broker).short())
            started = time.monotonic()
            left = _add_members(stack, broker)
            members_s = time.monotonic() - started
            if not left:
                _roll_out(stack, broker)
        except KryonixError as error:
            if not changed:
                raise
            raise _stopped(size, error) from error
    with stack.broker() as broker:
        finish(broker)
    return left, members_s


def _add_members(stack: ClusterStack, broker: Broker) -> Mapping[str, str]:
    """Return why each queue that is still short of members is, with progress."""
    title = f"grow {escape(stack.spec.name)}: queues with all members"
    with Live(err, f"grow {stack.spec.name}", counted=True).running() as progress:
        left = add_members(
            broker,
            lambda done, total: progress.update(title, f"{title}: {done} of {total}", completed=done, total=total),
        )
        return left | add_replicas(broker, stack.nodes)


def _roll_out(stack: ClusterStack, broker: Broker) -> None:
    """Replace the nodes that were there before: they don't know the new ones."""
    summary, state = stack.preview(all_of(stack)), read_state(broker)
    due = in_order(state, due_nodes(summary.steps, stack.deployment, stack.nodes))
    refuse(state, stack.nodes, due)
    fetch_image(stack, due)
    roll_nodes(stack, due)


def _absent(stack: ClusterStack, state: ClusterState) -> str:
    """Return which of the stack's nodes don't run; empty if all do."""
    found = [each.name for each in stack.nodes if (node := state.node(each.name)) is None or not node.running]
    return f"not running: {', '.join(found)}" if found else ""


def _stopped(size: int, error: KryonixError) -> OperationStopped:
    remedy = f"Correct the cause, then run `kryonix cluster grow --nodes {size}` again: it continues"
    return OperationStopped(f"growing the broker to {size} nodes stopped: {error}\nNo message is lost. {remedy}")


def _warning(before: int, container: str) -> str:
    if before > 1:
        return "The nodes that exist are then replaced one after the other, to know the new ones."
    return (
        f"{container} restarts once, to get the secret that nodes share: its clients are disconnected for about 20 s, "
        "and messages stay."
    )


def _report(size: int, added: int, left: Mapping[str, str]) -> list[str]:
    lines = [f"{size} nodes run, {added} of them new." if added else f"{size} nodes run already."]
    if left:
        names = "\n".join(f"  {escape(name)}: {escape(why)}" for name, why in left.items())
        return [*lines, f"[red]{len(left)} queue(s) still lack members[/red]; run the same command again:\n{names}"]
    return [*lines, "Every quorum queue and stream has all its members, and the leaders are spread over the nodes."]
