"""`kryonix cluster roll`: replace a cluster's nodes one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import typer
from rich.markup import escape

from kryonix.cli.cluster_stack import ClusterStack
from kryonix.cli.options import Json, StackOptions, Yes, command
from kryonix.cli.output.console import confirm, err, print_result, refuse_without_terminal
from kryonix.cli.output.progress import RunProgress
from kryonix.cluster.errors import ClusterNotReady
from kryonix.cluster.nodes import RecordedNode
from kryonix.cluster.roll import Roll, due_nodes, finish, in_order, only, refusals
from kryonix.cluster.state import ClusterState, read_state
from kryonix.engines.events import Summary
from kryonix.errors import InvalidChoice

_IMAGE: Final = "kryonix:brokerImage"

app = typer.Typer()


@command(app)
def roll(
    target: StackOptions,
    image: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="Set kryonix:brokerImage in the stack's config to this.")
    ] = None,
    yes: Yes = False,
    json_output: Json = False,
) -> None:
    """Replace the containers of the broker's nodes, one after the other, while the others serve.

    Replaces the nodes that `up` would replace: after another image, or other settings of the broker. Each is drained
    first, so its clients move to the others. It stops at the first failure, and the same command continues.

    Exit status: 0 done, or nothing to do; 1 failed midway; 2 refused before a node was touched, for example because
    a queue has too few members.
    """
    if not yes:
        refuse_without_terminal("cluster roll")
    with ClusterStack.alone(target) as stack:
        if not stack.nodes[1:]:
            raise InvalidChoice(
                f"stack {target.stack!r} has no broker of several nodes. `kryonix up` replaces the container of a "
                "single node; `kryonix cluster grow` makes it three"
            )
        _roll(stack.with_settings({_IMAGE: image} if image is not None else {}), yes=yes, json_output=json_output)


def _roll(stack: ClusterStack, *, yes: bool, json_output: bool) -> None:
    summary = stack.preview(all_of(stack))
    with stack.broker() as broker:
        state = read_state(broker)
    due = in_order(state, due_nodes(summary.steps, stack.deployment, stack.nodes))
    refuse(state, stack.nodes, due)
    if due and not yes:
        confirm("cluster roll", _question(due, summary))
    fetch_image(stack, due)
    stack.write_config()
    roll_nodes(stack, due)
    if not due and stack.needs_roll():
        # A killed roll replaced the last container, and has not recorded it.
        stack.up(only(stack.nodes[0], [node.number for node in stack.nodes[1:]]))
    with stack.broker() as broker:
        enabled = finish(broker)
    value = {"rolled": [node.container for node in due], "feature_flags_enabled": enabled}
    others = [] if due else refusals(state, stack.nodes, due)
    print_result(value, _report(due, enabled, summary, others), json_output)


def all_of(stack: ClusterStack) -> str:
    """Return the numbers of all nodes, which a preview may change."""
    return ",".join(str(node.number) for node in stack.nodes)


def refuse(state: ClusterState, nodes: Sequence[RecordedNode], due: Sequence[RecordedNode]) -> None:
    """Raise ClusterNotReady if the nodes that are due can't be replaced now."""
    if due and (problems := refusals(state, nodes, due)):
        text = "\n".join(f"  {problem}" for problem in problems)
        raise ClusterNotReady(f"the nodes can't be replaced now, and none has been touched:\n{text}")


def fetch_image(stack: ClusterStack, due: Sequence[RecordedNode]) -> None:
    """Pull the image before a node stops for it. Raises ClusterNotReady."""
    image = str(stack.setting(_IMAGE))
    for node in due:
        node.fetch(image)


def roll_nodes(stack: ClusterStack, due: Sequence[RecordedNode]) -> None:
    """Replace the nodes, with progress. Raises OperationStopped at the first failure."""
    progress = RunProgress(err, f"roll {stack.spec.name}", failures=False)
    with progress.running():
        Roll(
            engine=stack.engine,
            spec=stack.spec,
            connect=stack.broker,
            on_stage=progress.on_stage,
            on_event=progress.on_event,
        ).run(due, [node for node in stack.nodes if node not in due])


def _question(due: Sequence[RecordedNode], summary: Summary) -> str:
    containers = ", ".join(node.container for node in due)
    others = sum(step.op not in ("same", "read") for step in summary.steps) - len(due)
    more = f" The run makes {others:,} other change(s) too; `kryonix preview` shows them." if others > 0 else ""
    return f"Replace {len(due)} container(s), one after the other: {containers}?{more}"


def _report(
    due: Sequence[RecordedNode], enabled: Sequence[str], summary: Summary, problems: Sequence[str]
) -> list[str]:
    lines = [f"{len(due)} node(s) replaced: {', '.join(node.container for node in due)}."]
    if not due:
        lines = ["Nothing to roll out: no node's container would change."]
        if summary.changed:
            lines.append("`kryonix up` applies the other changes of the stack.")
        lines += [f"[yellow]But[/yellow] {escape(problem)}." for problem in problems]  # a killed roll may have left it
    if enabled:
        lines.append(f"Feature flags enabled: {', '.join(enabled)}.")
    return [*lines, "The leaders of the queues are spread over the nodes."]
