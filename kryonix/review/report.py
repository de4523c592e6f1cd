"""Render a review as Markdown for a pull request: a short head, folded details, within the limit of a comment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from kryonix.review.differences import Group, TenantDifference, grouped
from kryonix.review.escaping import code, counted, prose
from kryonix.review.finding_sections import finding_sections
from kryonix.review.guardrails import Guardrail, Judgement, exit_status
from kryonix.review.tenant_sections import overview, tenant_section, tenant_summary


@dataclass(frozen=True)
class Review:
    """A change, compared with a base."""

    base: str
    differences: tuple[TenantDifference, ...]
    judgement: Judgement | None = field(default_factory=Judgement)
    """None if the guardrails were not checked."""
    notes: tuple[str, ...] = ()
    fits: bool = True
    """False if a tenant does not fit its plan: `up` refuses then, even if the finding is accepted."""
    complete: bool = True
    """False if differences may be missing; the notes say why."""

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        return grouped(self.differences)

    @property
    def lost(self) -> int:
        """Return the number of queues lost with their messages."""
        return sum(len(difference.lost) for difference in self.differences)

    def count(self, kind: str) -> int:
        """Return the number of added, changed or removed tenants."""
        return sum(difference.kind == kind for difference in self.differences)

    @property
    def exit_status(self) -> int:
        """Return 0 if nothing blocks the change, else the guardrail's status."""
        return exit_status(self.judgement.blocking) if self.judgement else 0


MARKER: Final = "<!-- kryonix-review -->"
"""The first line of every report. It finds the comment to update."""

LONGEST_COMMENT: Final = 65_536
"""GitHub's limit of a comment, in characters; applied to bytes, never fewer than characters."""

SHORTEST_REPORT: Final = 4_000
"""Bytes below which even the summary may not fit."""

_TITLE: Final = "## What this change does to the tenants"
_LINES: Final = 25
_SHORT_LINES: Final = 3
_FOOTER: Final = 600
_FEW: Final = 5  # folds that a reader opens one by one; more of them get an overview first


def markdown(review: Review, *, limit: int | None = None, full: str | None = None) -> str:
    """Return the report. To fit a limit in bytes, folds become lines, and a pointer to the full report is added."""
    if limit is None:
        return "\n".join(_whole(review))
    head = _fitting_head(review, limit - _FOOTER)
    tenants, left = _fitting_tenants(review.groups, limit - _FOOTER - _size(head))
    sections = [*head, *_titled(tenants)]
    if left:
        sections.append(f"**Cut here: {counted(left, 'tenant')} more.** {_pointer(full)}\n")
    elif sections != _whole(review):
        sections.append(f"Shortened. {_pointer(full)}\n")
    return "\n".join(sections)


def refusal(base: str, problems: Sequence[str], *, limit: int | None = None) -> str:
    """Return the report of a change with invalid input."""
    head = [MARKER, _TITLE, "", f"⛔ **Not reviewed: the input is invalid.** Against {code(base)}.", ""]
    lines = [f"- {prose(problem)}" for problem in problems]
    shown = lines if limit is None else _fitting(lines, limit - _FOOTER - _size(head))
    cut = [f"- and {len(lines) - len(shown):,} more"] if len(shown) < len(lines) else []
    return "\n".join([*head, *shown, *cut, ""])


def _summary(review: Review) -> str:
    """Return the title, the figures, the verdict and the notes."""
    counts = {kind: review.count(kind) for kind in ("added", "changed", "removed")}
    shown = [f"**{counted(count, 'tenant')} {kind}**" for kind, count in counts.items() if count]
    what = ", ".join(shown) or "**no tenant changes**"
    lines = [MARKER, _TITLE, "", f"Against {code(review.base)}: {what}.", ""]
    if review.differences:
        lost = f"⚠️ **{counted(review.lost, 'queue')} lost with the messages in them.**"
        lines += [lost if review.lost else "No queue is lost.", ""]
    lines += [_verdict(review), ""]
    for note in review.notes:
        lines += [f"> **Note:** {prose(note)}.", ""]
    return "\n".join(lines)


def _verdict(review: Review) -> str:
    if review.judgement is None:
        return "The guardrails were not checked. `--guard` checks them."
    blocking = Counter(finding.guardrail for finding in review.judgement.blocking)
    if blocking:
        found = [guardrail for guardrail in Guardrail if guardrail in blocking]
        counts = ", ".join(f"`{guardrail.label}` × {blocking[guardrail]:,}" for guardrail in found)
        return f"⛔ **Blocked** by {counts} (exit status {review.exit_status})."
    if not review.fits:
        return "⚠️ **Accepted, but it can't be deployed**: a tenant does not fit its plan, and `up` refuses."
    if not review.complete:
        return "⚠️ No finding blocks it, but the comparison is incomplete: see the note."
    accepted = len(review.judgement.accepted)
    return f"✅ Nothing blocks it{f': {accepted:,} accepted in this change' if accepted else ''}."


def _whole(review: Review) -> list[str]:
    return [*_head(review, None), *_titled([tenant_section(group, None) for group in review.groups])]


def _head(review: Review, most: int | None) -> Iterator[str]:
    yield _summary(review)
    if review.judgement is not None:
        yield from finding_sections(review.judgement, most)
    if len(review.groups) > _FEW:
        yield overview(review.differences, most)


def _fitting_head(review: Review, room: int) -> list[str]:
    heads = (list(_head(review, lines)) for lines in (_LINES, _SHORT_LINES))
    return next((head for head in heads if _size(head) <= room), [_summary(review)])  # names of extraordinary length


def _fitting_tenants(groups: Sequence[Group], room: int) -> tuple[list[str], int]:
    """Return fitting folds, then lines for more, and the number of tenants left out."""
    folds = _fitting((tenant_section(group, _LINES) for group in groups), room)
    if len(folds) == len(groups):
        return folds, 0
    shown = _fitting(folds, room // 2)
    lines = (f"- {tenant_summary(group)}" for group in groups[len(shown) :])
    summaries = _fitting(lines, room - _size(shown))
    left = sum(len(group.tenants) for group in groups[len(shown) + len(summaries) :])
    return [*shown, "\n".join([*summaries, ""])], left


def _titled(tenants: list[str]) -> list[str]:
    return ["### Tenants\n", *tenants] if tenants else []


def _fitting(texts: Iterable[str], room: int) -> list[str]:
    """Return the first texts within the room. Later ones are not even rendered: a fleet has thousands."""
    fitting = []
    for text in texts:
        room -= _size([text])
        if room < 0:
            break
        fitting.append(text)
    return fitting


def _pointer(full: str | None) -> str:
    return f"The whole report is in {code(full)}." if full else "`--full FILE` writes the whole report."


def _size(texts: Iterable[str]) -> int:
    return sum(len(text.encode()) + 1 for text in texts)
