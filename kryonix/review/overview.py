"""What happens across many tenants, as a table of the same steps: how many tenants take each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from kryonix.review.differences import TenantDifference, nameless
from kryonix.review.escaping import code
from kryonix.review.object_lists import policy_steps
from kryonix.review.wording import value_or_none
from kryonix.topology.objects import OPERATOR_POLICY, POLICY

__all__ = ["overview"]

_Step = tuple[str, str, str]


def overview(differences: Iterable[TenantDifference], most: int | None) -> str:
    """The steps of tenants that stay, the most frequent first. It ends after `most` rows where that is given."""
    steps = Counter(step for difference in differences if difference.kind == "changed" for step in _steps(difference))
    ordered = sorted(steps.items(), key=lambda item: (-item[1], item[0]))
    lines = ["| what | before | after | tenants |", "|---|---|---|---|"]
    lines += [f"| {what} | {before} | {after} | {count:,} |" for (what, before, after), count in ordered[:most]]
    cut = [] if most is None or len(ordered) <= most else ["", f"and {len(ordered) - most:,} more, in the full report"]
    return "\n".join(["### Across the tenants that change", "", *lines, *cut]) + "\n"


def _steps(difference: TenantDifference) -> set[_Step]:
    """What one tenant takes part in. What follows from its plan or status is not told apart from that."""
    was, now = difference.before, difference.after
    if was is None or now is None:
        return set()
    moved = [field for field in difference.choices if field.differs and field.name != "modules"]
    follows = {field.name for field in moved} & {"plan", "status"}
    fields = moved + [field for field in difference.limits if field.differs and not follows]
    steps = {(field.name, value_or_none(field.before), value_or_none(field.after)) for field in fields}
    steps |= {_module(module, bought=False) for module in was.tenant.modules if module not in now.tenant.modules}
    steps |= {_module(module, bought=True) for module in now.tenant.modules if module not in was.tenant.modules}
    return steps | set(_of_objects(difference, scaled="plan" in follows))


def _module(module: str, *, bought: bool) -> _Step:
    shown = f"module {code(module)}"
    return (shown, "none", "bought") if bought else (f"⚠️ {shown}", "bought", "none, its queues are lost")


def _of_objects(difference: TenantDifference, *, scaled: bool) -> Iterator[_Step]:
    bought = () if difference.after is None else difference.after.tenant.modules
    for module in {change.before.module for change in difference.lost}.intersection(bought):
        yield f"⚠️ queues of module {code(module)}", "there", "lost or replaced"
    changed = [change for change in difference.changes if change.action == "change"]
    # The operator policy holds the plan's depth: it changes with the plan.
    policies = [c for c in changed if c.kind == POLICY.name or (c.kind == OPERATOR_POLICY.name and not scaled)]
    for (key, before, after), names in policy_steps(policies).items():
        for name in names:
            yield f"{code(key)} of policy {code(nameless(difference.tenant, name, '*'))}", before, after
    if any(change.kind == "permissions" for change in changed):
        yield "permissions", "", "changed"
