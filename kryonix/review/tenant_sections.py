"""The sections of a report about tenants: an overview, and a fold per tenant or group of equal ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any, Final

from kryonix.review.differences import Action, Change, FieldChange, Group, TenantDifference, nameless
from kryonix.review.escaping import DONE, code, counted, cut, names, step, value_or_none
from kryonix.topology.capacity import use
from kryonix.topology.catalog import MIB, duration_text, size_text
from kryonix.topology.expansion import Topology
from kryonix.topology.objects import KINDS, OPERATOR_POLICY, POLICY

_Step = tuple[str, str, str]
_MS: Final = ("message-ttl", "delayed-retry-min", "delayed-retry-max")
_MUTABLE: Final = tuple(kind.name for kind in KINDS.values() if not kind.immutable)


def overview(differences: Iterable[TenantDifference], most: int | None) -> str:
    """Return a table of equal steps of changed tenants, the most frequent first, cut after `most` rows."""
    steps = Counter(step for difference in differences if difference.kind == "changed" for step in _steps(difference))
    ordered = sorted(steps.items(), key=lambda item: (-item[1], item[0]))
    lines = ["| what | before | after | tenants |", "|---|---|---|---|"]
    lines += [f"| {what} | {before} | {after} | {count:,} |" for (what, before, after), count in ordered[:most]]
    return "\n".join(["### Across the tenants that change", "", *lines, *cut(len(ordered), most)]) + "\n"


def _steps(difference: TenantDifference) -> set[_Step]:
    """Return the steps of one tenant, without the consequences of another plan or status."""
    was, now = difference.before, difference.after
    if was is None or now is None:
        return set()
    moved = [field for field in difference.choices if field.differs and field.name != "modules"]
    follows = {field.name for field in moved} & {"plan", "status"}
    fields = moved + [field for field in difference.limits if field.differs and not follows]
    steps = {(field.name, value_or_none(field.before), value_or_none(field.after)) for field in fields}
    had, has = set(was.tenant.modules), set(now.tenant.modules)
    steps |= {(f"⚠️ module {code(module)}", "bought", "none, its queues are lost") for module in had - has}
    steps |= {(f"module {code(module)}", "none", "bought") for module in has - had}
    return steps | set(_object_steps(difference, scaled="plan" in follows))


def _object_steps(difference: TenantDifference, *, scaled: bool) -> Iterator[_Step]:
    bought = () if difference.after is None else difference.after.tenant.modules
    for module in {change.before.module for change in difference.lost}.intersection(bought):
        yield f"⚠️ queues of module {code(module)}", "there", "lost or replaced"
    changed = [change for change in difference.changes if change.action == "change"]
    # The operator policy holds the plan's depth: it changes with the plan.
    policies = [c for c in changed if c.kind == POLICY.name or (c.kind == OPERATOR_POLICY.name and not scaled)]
    for (key, before, after), changed_policies in _policy_steps(policies).items():
        for name in changed_policies:
            yield f"{code(key)} of policy {code(nameless(difference.tenant, name, '*'))}", before, after
    if any(change.kind == "permissions" for change in changed):
        yield "permissions", "", "changed"


def tenant_section(group: Group, most: int | None) -> str:
    """Return the fold of a group, with lists cut after `most` names."""
    lines = [f"<details><summary>{tenant_summary(group)}</summary>", ""]
    if len(group.tenants) > 1:
        lines += [f"The same for {len(group.tenants):,} tenants: {names(group.tenants, most)}.", ""]
        lines += [f"Names and figures below are those of {code(group.first.tenant)}.", ""]
    lines += [*_figures(group.first), ""]
    body = _object_lists(group.first, most) if group.first.kind == "changed" else _whole(group.first)
    return "\n".join([*lines, *body, "</details>"]) + "\n"


def _figures(difference: TenantDifference) -> Iterator[str]:
    """Yield a table of differing choices and limits, and of the use of the plan; one column if there is one side."""
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
    shares = {"queues": (used.queues, limits.max_queues), "exchanges": (used.exchanges, limits.max_exchanges)}
    return {
        f"{noun} used": f"{count} of {most} ({100 * count // most} %){' **does not fit**' if count > most else ''}"
        for noun, (count, most) in shares.items()
    }


def _whole(difference: TenantDifference) -> Iterator[str]:
    """Describe the objects of an added or removed tenant."""
    topology = difference.after or difference.before
    if topology is None:
        return
    by_module = ", ".join(f"{code(module)} {count}" for module, count in use(topology).queues_by_module.items())
    verb = "Adds" if difference.kind == "added" else "Removes"
    lost = " with the messages in them" if difference.kind == "removed" else ""
    users = f"the users {code(topology.user)} and {code(topology.stats_user)}"
    yield f"{verb} the vhost {code(topology.vhost)}, {users}, and its queues ({by_module}){lost}."
    yield ""


def tenant_summary(group: Group) -> str:
    """Return the line of a closed fold."""
    first, tenants = group.first, group.tenants
    who, each = f"<b>{code(tenants[0])}</b>", ""
    if len(tenants) > 1:
        who, each = f"<b>{len(tenants):,} tenants</b> alike ({names(tenants, 3)})", " each"
    facts = [f"<b>{counted(len(first.lost), 'queue')}{each} lost with the messages</b>"] if first.lost else []
    if first.kind == "changed":
        facts += _short_changes(first)
    elif first.after is not None:
        facts.append(f"plan {code(first.after.tenant.plan)}")
        facts.append(f"{use(first.after).queues} of {counted(first.after.limits.max_queues, 'queue')}")
    mark = "⚠️ " if first.lost else ""
    return f"{mark}{who} {first.kind}: {' · '.join(facts) or 'nothing on the broker'}"


def _short_changes(difference: TenantDifference) -> Iterator[str]:
    """Yield each change in a few words."""
    was, now = difference.before, difference.after
    if was is None or now is None:
        return
    for field in difference.choices:
        if field.differs and field.name != "modules":
            yield f"{field.name} {step(field)}"
    for verb, these, those in (("adds", now, was), ("removes", was, now)):
        if moved := [module for module in these.tenant.modules if module not in those.tenant.modules]:
            yield f"{verb} {names(moved, 3)}"
    if (before := len(was.queues)) != (after := len(now.queues)):
        over = ", <b>does not fit</b>" if after > now.limits.max_queues else ""
        yield f"queues {before} → {after} of {now.limits.max_queues}{over}"
    made = Counter((change.kind, change.action) for change in difference.changes)
    yield from (f"{counted(count, kind)} {DONE[action]}" for (kind, action), count in made.items() if kind in _MUTABLE)
    if ("permissions", "change") in made:
        yield "permissions changed"
    limits = [field for field in difference.limits if field.differs]
    if limits:
        yield f"{limits[0].name} {step(limits[0])}" if len(limits) == 1 else f"{len(limits)} limits changed"


def _object_lists(difference: TenantDifference, most: int | None) -> Iterator[str]:
    """Yield the changed objects of a changed tenant, with lists cut after `most` names."""
    by: dict[tuple[str, Action], list[Change]] = {}
    for change in difference.changes:
        by.setdefault((change.kind, change.action), []).append(change)
    by.pop(("vhost", "change"), None)  # its limits are in the figures
    for action in ("replace", "remove", "add"):
        if queues := by.pop(("queue", action), []):
            title = f"{counted(len(queues), 'queue')} {DONE[action]}"
            yield from (f"**{title}**" if action == "add" else f"⚠️ **{title}, with the messages**", "")
            yield from (f"- {code(change.name)}" for change in queues[:most])
            if most is not None and len(queues) > most:
                yield f"- and {len(queues) - most:,} more"
            yield ""
    if policies := [change for kind in _MUTABLE for change in by.pop((kind, "change"), [])]:
        yield "**Policies that change in place, messages stay**"
        yield from ("", "| policy | key | before | after |", "|---|---|---|---|")
        for (key, before, after), changed in _policy_steps(policies).items():
            yield f"| {names(changed, None)} | {code(key)} | {before} | {after} |"
        yield ""
    if rights := by.pop(("permissions", "change"), []):
        yield "**Permissions**"
        yield from ("", "| right | before | after |", "|---|---|---|")
        for field in _differing(asdict(rights[0].before), asdict(rights[0].after)):
            yield f"| {field.name} | {value_or_none(field.before)} | {value_or_none(field.after)} |"
        yield ""
    if by:
        yield (
            "Also " + ", ".join(f"{counted(len(found), kind)} {DONE[act]}" for (kind, act), found in by.items()) + "."
        )
        yield ""


def _policy_steps(changes: Iterable[Change]) -> dict[tuple[str, str, str], list[str]]:
    """Return the policies by equal steps: key, value before, value after."""
    steps: dict[tuple[str, str, str], list[str]] = {}
    for change in changes:
        for field in _differing(_flat(change.before), _flat(change.after)):
            was, now = (_written(field.name, value) for value in (field.before, field.after))
            steps.setdefault((field.name, value_or_none(was), value_or_none(now)), []).append(change.name)
    return steps


def _written(key: str, value: Any) -> Any:
    """Return a duration or a size as the catalog writes it."""
    if not isinstance(value, int) or value <= 0:
        return value
    if key == "max-length-bytes" and value % MIB == 0:
        return size_text(value)
    return duration_text(value) if key in _MS else value


def _flat(policy: Any) -> dict[str, Any]:
    plain = asdict(policy)
    return {**plain.pop("definition"), **plain}


def _differing(was: dict[str, Any], now: dict[str, Any]) -> Iterator[FieldChange]:
    fields = (FieldChange(key, was.get(key), now.get(key)) for key in was | now)
    return (field for field in fields if field.differs)
