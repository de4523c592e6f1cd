"""What happens to a tenant, or to several alike, in one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from kryonix.review.differences import TenantDifference
from kryonix.review.escaping import code
from kryonix.review.report import Group
from kryonix.review.wording import DONE, counted, names, step
from kryonix.topology.capacity import use
from kryonix.topology.objects import KINDS

__all__ = ["tenant_summary"]


def tenant_summary(group: Group) -> str:
    """The line that a fold shows while it is closed."""
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
            yield f"{field.name} {step(field)}"
    for verb, these, those in (("adds", now, was), ("removes", was, now)):
        if moved := [module for module in these.tenant.modules if module not in those.tenant.modules]:
            yield f"{verb} {names(moved, 3)}"
    if (before := len(was.queues)) != (after := len(now.queues)):
        over = ", <b>does not fit</b>" if after > now.limits.max_queues else ""
        yield f"queues {before} → {after} of {now.limits.max_queues}{over}"
    made = Counter((change.kind, change.action) for change in difference.changes)
    for (kind, action), count in made.items():
        if kind in KINDS and not KINDS[kind].immutable:
            yield f"{counted(count, kind)} {DONE[action]}"
    if ("permissions", "change") in made:
        yield "permissions changed"
    limits = [field for field in difference.limits if field.differs]
    if limits:
        yield f"{limits[0].name} {step(limits[0])}" if len(limits) == 1 else f"{len(limits)} limits changed"
