"""One fold of the report: what happens to a tenant, or to several alike."""

from __future__ import annotations

from collections.abc import Iterator

from kryonix.review.differences import TenantDifference
from kryonix.review.escaping import code
from kryonix.review.object_lists import object_lists
from kryonix.review.report import Group
from kryonix.review.tenant_summary import tenant_summary
from kryonix.review.wording import names, value_or_none
from kryonix.topology.capacity import use
from kryonix.topology.expansion import Topology

__all__ = ["tenant_section"]


def tenant_section(group: Group, most: int | None) -> str:
    """The fold of a group. Lists end after `most` names where that is given."""
    lines = [f"<details><summary>{tenant_summary(group)}</summary>", ""]
    if len(group.tenants) > 1:
        lines += [f"The same for {len(group.tenants):,} tenants: {names(group.tenants, most)}.", ""]
        lines += [f"Names and figures below are those of {code(group.first.tenant)}.", ""]
    lines += [*_figures(group.first), ""]
    body = object_lists(group.first, most) if group.first.kind == "changed" else _whole(group.first)
    return "\n".join([*lines, *body, "</details>"]) + "\n"


def _figures(difference: TenantDifference) -> Iterator[str]:
    """Choices and limits that differ, and always what is used of the plan; one column where there is one side."""
    was, now = _used(difference.before), _used(difference.after)
    rows = [
        (field.name, value_or_none(field.before), value_or_none(field.after))
        for field in (*difference.choices, *difference.limits)
        if field.differs
    ]
    rows += [(name, was.get(name, ""), now.get(name, "")) for name in was | now]
    sides = [name for name, side in (("before", difference.before), ("after", difference.after)) if side is not None]
    yield f"| | {' | '.join(sides)} |"
    yield f"|{'---|' * (1 + len(sides))}"
    for name, before, after in rows:
        shown = {"before": before, "after": after}
        yield f"| {name} | {' | '.join(shown[side] for side in sides)} |"


def _used(topology: Topology | None) -> dict[str, str]:
    if topology is None:
        return {}
    used, limits = use(topology), topology.limits
    return {
        "queues used": _share(used.queues, limits.max_queues),
        "exchanges used": _share(used.exchanges, limits.max_exchanges),
    }


def _share(used: int, allowed: int) -> str:
    over = " **does not fit**" if used > allowed else ""
    return f"{used} of {allowed} ({100 * used // allowed} %){over}"


def _whole(difference: TenantDifference) -> Iterator[str]:
    """A tenant that comes or goes with all it has: how much that is."""
    topology = difference.after or difference.before
    if topology is None:
        return
    by_module = ", ".join(f"{code(module)} {count}" for module, count in use(topology).queues_by_module.items())
    verb = "Comes with" if difference.kind == "added" else "Goes with"
    lost = ", and the messages in them" if difference.kind == "removed" else ""
    yield f"{verb} the vhost {code(topology.vhost)}, the user {code(topology.user)} and its queues ({by_module}){lost}."
    yield ""
