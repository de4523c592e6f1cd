"""One fold of the report: what happens to a tenant, or to several alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final

from kryonix.review.differences import Field, TenantDifference
from kryonix.review.escaping import code
from kryonix.review.report import Group
from kryonix.topology.capacity import use
from kryonix.topology.comparison import Action, Change, Kind
from kryonix.topology.expansion import Topology

__all__ = ["counted", "names", "tenant_section"]

_PLURALS: Final = {"policy": "policies", "permissions": "permissions"}
_DONE: Final[dict[Action, str]] = {
    "add": "added",
    "remove": "deleted",
    "replace": "replaced",
    "change": "changed in place",
}
_By = dict[tuple[Kind, Action], list[Change]]


def tenant_section(group: Group, most: int | None) -> str:
    """The fold of a group. Lists end after `most` names where that is given."""
    lines = [f"<details><summary>{_summary(group)}</summary>", ""]
    if len(group.tenants) > 1:
        lines += [f"The same for {len(group.tenants):,} tenants: {names(group.tenants, most)}.", ""]
        lines += [f"Names and figures below are those of {code(group.first.tenant)}.", ""]
    lines += [*_figures(group.first), ""]
    body = _changed(group.first, most) if group.first.kind == "changed" else _whole(group.first)
    return "\n".join([*lines, *body, "</details>"]) + "\n"


def counted(count: int, noun: str) -> str:
    return f"{count:,} {noun if count == 1 else _PLURALS.get(noun, f'{noun}s')}"


def names(values: Sequence[str], most: int | None) -> str:
    """A list of values as code, cut where it is too long."""
    shown = ", ".join(code(value) for value in (values if most is None else values[:most]))
    return shown if most is None or len(values) <= most else f"{shown} and {len(values) - most:,} more"


def _summary(group: Group) -> str:
    first, tenants = group.first, group.tenants
    who, each = f"<b>{code(tenants[0])}</b>", ""
    if len(tenants) > 1:
        who, each = f"<b>{len(tenants):,} tenants</b> alike ({names(tenants, 3)})", " each"
    facts = [f"<b>{counted(len(first.lost), 'queue')}{each} lost with the messages</b>"] if first.lost else []
    facts += _choices(first) if first.kind == "changed" else _plan(first)
    mark = "⚠️ " if first.lost else ""
    return f"{mark}{who} {first.kind}: {' · '.join(facts) or 'nothing on the broker'}"


def _plan(difference: TenantDifference) -> Iterator[str]:
    if difference.after is not None:
        used = use(difference.after).queues
        yield f"plan {code(difference.after.tenant.plan)}"
        yield f"{used} of {counted(difference.after.limits.max_queues, 'queue')}"


def _choices(difference: TenantDifference) -> Iterator[str]:
    """What changes, in a few words each."""
    was, now = difference.before, difference.after
    if was is None or now is None:
        return
    for field in difference.choices:
        if field.differs and field.name != "modules":
            yield f"{field.name} {_step(field)}"
    for sign, these, those in (("+", now, was), ("-", was, now)):
        if moved := [module for module in these.tenant.modules if module not in those.tenant.modules]:
            yield f"{sign} {names(moved, 3)}"
    if (before := len(was.queues)) != (after := len(now.queues)):
        over = ", <b>does not fit</b>" if after > now.limits.max_queues else ""
        yield f"queues {before} → {after} of {now.limits.max_queues}{over}"
    made = Counter((change.kind, change.action) for change in difference.changes)
    for kind, action in made:
        if kind in ("policy", "permissions"):
            yield f"{counted(made[kind, action], kind)} {_DONE[action]}"
    if limits := [field.name for field in difference.limits if field.differs]:
        yield counted(len(limits), "limit") + " changed"


def _step(field: Field) -> str:
    return f"{_value(field.before)} → {_value(field.after)}"


def _value(value: Any) -> str:
    return "none" if value is None else code(value)


def _figures(difference: TenantDifference) -> Iterator[str]:
    """Choices and limits that differ, and always what is used of the plan."""
    yield from ("| | before | after |", "|---|---|---|")
    for field in (*difference.choices, *difference.limits):
        if field.differs:
            yield f"| {field.name} | {_value(field.before)} | {_value(field.after)} |"
    was, now = _used(difference.before), _used(difference.after)
    for name in was | now:
        yield f"| {name} | {was.get(name, 'none')} | {now.get(name, 'none')} |"


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
    yield f"{verb} the vhost {code(topology.vhost)}, the user {code(topology.user)} and queues of {by_module}{lost}."
    yield ""


def _changed(difference: TenantDifference, most: int | None) -> Iterator[str]:
    by: _By = {}
    for change in difference.changes:
        by.setdefault((change.kind, change.action), []).append(change)
    by.pop(("vhost", "change"), None)  # its limits are in the figures
    for action in ("replace", "remove"):
        if lost := by.pop(("queue", action), []):
            title = f"⚠️ **{counted(len(lost), 'queue')} {_DONE[action]}, the messages in them are lost**"
            yield from _list(title, lost, most)
    if added := by.pop(("queue", "add"), []):
        yield from _list(f"**{counted(len(added), 'queue')} added**", added, most)
    if policies := by.pop(("policy", "change"), []):
        yield "**Policies that change in place, messages stay**"
        yield from ("", "| policy | key | before | after |", "|---|---|---|---|", *_keys(policies), "")
    if rights := by.pop(("permissions", "change"), []):
        yield "**Permissions**"
        yield from ("", "| right | before | after |", "|---|---|---|", *_rights(rights), "")
    if by:
        yield (
            "Also " + ", ".join(f"{counted(len(found), kind)} {_DONE[act]}" for (kind, act), found in by.items()) + "."
        )
        yield ""


def _list(title: str, changes: Sequence[Change], most: int | None) -> Iterator[str]:
    yield from (title, "")
    yield from (f"- {code(change.name)}" for change in (changes if most is None else changes[:most]))
    if most is not None and len(changes) > most:
        yield f"- and {len(changes) - most:,} more"
    yield ""


def _keys(changes: Iterable[Change]) -> Iterator[str]:
    for change in changes:
        for field in _fields(_flat(change.before), _flat(change.after)):
            yield f"| {code(change.name)} | {code(field.name)} | {_value(field.before)} | {_value(field.after)} |"


def _flat(policy: Any) -> dict[str, Any]:
    plain = asdict(policy)
    return {**plain.pop("definition"), **plain}


def _rights(changes: Iterable[Change]) -> Iterator[str]:
    for change in changes:
        for field in _fields(asdict(change.before), asdict(change.after)):
            yield f"| {field.name} | {_value(field.before)} | {_value(field.after)} |"


def _fields(was: dict[str, Any], now: dict[str, Any]) -> Iterator[Field]:
    fields = (Field(key, was.get(key), now.get(key)) for key in was | now)
    return (field for field in fields if field.differs)
