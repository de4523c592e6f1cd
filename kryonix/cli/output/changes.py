"""A run's changes, by tenant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from rich.markup import escape

from kryonix.engines.deployments import CONTAINER_TYPE, TENANT_TYPE
from kryonix.engines.events import Op, Step
from kryonix.review.differences import Action
from kryonix.review.escaping import DONE, counted
from kryonix.topology.objects import KINDS, QUEUE

_ACTIONS: Final[dict[Op, Action]] = {"delete": "remove", "replace": "replace", "update": "change", "create": "add"}
_VHOST: Final = "rabbitmq:index/vHost:VHost"
_DATA: Final = (QUEUE.resource_type, _VHOST, CONTAINER_TYPE, "docker:index/volume:Volume")
"""Types that hold data, or whose replacement interrupts the tenants."""
_NOUNS: Final = {kind.resource_type: kind.name for kind in (QUEUE, *KINDS.values())} | {
    _VHOST: "vhost",
    CONTAINER_TYPE: "container",
    "docker:index/volume:Volume": "volume",
}


def change_lines(steps: Iterable[Step], *, done: bool = False) -> list[str]:
    """Return a line per tenant, removed ones first, and one for the rest: what a run changes, or has `done`."""
    groups: dict[str, list[Step]] = {}
    for step in steps:
        if step.op in _ACTIONS:
            groups.setdefault(_tenant(step), []).append(step)
    lines = []
    for tenant, changes in groups.items():
        whole = next(
            (step.op for step in changes if step.type == TENANT_TYPE and step.op in ("create", "delete")), None
        )
        if whole == "delete":
            lines.append(
                (0, f"[bold red]Remove{'d' if done else 's'} tenant {escape(tenant)}[/bold red]: {_counts(changes)}")
            )
        elif whole == "create":
            lines.append((2, f"[bold]{escape(tenant)}[/bold]: new tenant, {_counts(changes)}"))
        else:
            text = "; ".join(
                f"{_counts(each)} {DONE[action]}"
                for op, action in _ACTIONS.items()
                if (each := [step for step in changes if step.op == op])
            )
            lines.append((1, f"[bold]{escape(tenant) or 'rest of the stack'}[/bold]: {text}"))
    return [line for _, line in sorted(lines)]


def notable(steps: Iterable[Step]) -> tuple[Step, ...]:
    """Return the changes of existing objects of these types. A removed tenant's vhost stands for its queues."""
    steps = tuple(steps)
    gone = {_tenant(step) for step in steps if step.type == TENANT_TYPE and step.op == "delete"}
    found = (
        step
        for step in steps
        if step.type in _DATA
        and step.op in ("delete", "replace", "update")
        and not (step.type == QUEUE.resource_type and _tenant(step) in gone)
    )
    return tuple(sorted(found, key=lambda step: step.name))


def _tenant(step: Step) -> str:
    """Return the tenant of a step, whose name begins with the tenant's; empty for one outside of tenants."""
    return step.name.partition("/")[0] if TENANT_TYPE in step.urn.rsplit("::", 2)[1].split("$") else ""


def _counts(steps: Iterable[Step]) -> str:
    """Return counts of objects by kind, such as `2 queues, 1 vhost, 3 other objects`."""
    counts = Counter(_NOUNS.get(step.type, "") for step in steps if step.type != TENANT_TYPE)
    named = [counted(counts[noun], noun) for noun in _NOUNS.values() if counts[noun]]
    rest = [counted(counts[""], "other object" if named else "object")] if counts[""] else []
    return ", ".join([*named, *rest])
