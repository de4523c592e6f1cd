"""The report as a comment on a pull request: short at the top, details folded, never longer than a comment may be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from kryonix.review.escaping import code, prose
from kryonix.review.finding_section import finding_sections
from kryonix.review.guardrails import Guardrail
from kryonix.review.report import Review
from kryonix.review.tenant_section import tenant_section
from kryonix.review.wording import counted

__all__ = ["LONGEST_COMMENT", "MARKER", "SHORTEST_REPORT", "markdown", "refusal"]

MARKER: Final = "<!-- kryonix-review -->"
"""The first line of every report, by which the comment that is to be updated is found."""

LONGEST_COMMENT: Final = 65_536
"""What a comment on GitHub may have, in characters; held in bytes, which are never fewer."""

SHORTEST_REPORT: Final = 4_000
"""Bytes below which not even the summary is sure to fit."""

_LINES: Final = 25
_SHORT_LINES: Final = 3
_FOOTER: Final = 600
_TITLE: Final = "## What this change does to the tenants"


def markdown(review: Review, *, limit: int | None = None, full: str | None = None) -> str:
    """The report. With a limit in bytes it is cut between two tenants, and says where the whole is."""
    if limit is None:
        return "\n".join([*_head(review, None), *_tenants(review, None)])
    sections, shown = _fitting_head(review, limit - _FOOTER), 0
    room = limit - _FOOTER - _size("\n".join(sections))
    for section in _tenants(review, _LINES):
        room -= _size(section) + 1
        if room < 0:
            break
        sections.append(section)
        shown += 1
    left = sum(len(group.tenants) for group in review.groups) - _tenants_in(review, shown)
    where = f"The whole report is in {code(full)}." if full else "`--full FILE` writes the whole report."
    if left:
        sections.append(f"**Cut here: {counted(left, 'tenant')} more.** {where}\n")
    elif sections != [*_head(review, None), *_tenants(review, None)]:
        sections.append(f"Long lists are cut. {where}\n")
    return "\n".join(sections)


def _fitting_head(review: Review, most: int) -> list[str]:
    for lines in (_LINES, _SHORT_LINES):
        head = list(_head(review, lines))
        if _size("\n".join(head)) <= most:
            return head
    return [_summary(review)]  # names of extraordinary length


def refusal(base: str, problems: Sequence[str], *, limit: int | None = None) -> str:
    """The report of a change that can't be read."""
    lines = [MARKER, _TITLE, "", f"⛔ **Not reviewed: it can't be accepted as it stands.** Against {code(base)}.", ""]
    room = (limit or 10**9) - _size("\n".join(lines)) - _FOOTER
    for at, problem in enumerate(problems):
        line = f"- {prose(problem)}"
        room -= _size(line) + 1
        if room < 0:
            lines.append(f"- and {len(problems) - at} more")
            break
        lines.append(line)
    return "\n".join([*lines, ""])


def _head(review: Review, most: int | None) -> Iterator[str]:
    yield _summary(review)
    if review.judgement is not None:
        yield from finding_sections(review.judgement, most)


def _summary(review: Review) -> str:
    counts = {kind: review.count(kind) for kind in ("added", "changed", "removed")}
    told = [f"**{counted(count, 'tenant')} {kind}**" for kind, count in counts.items() if count]
    what = ", ".join(told) or "**no tenant is touched**"
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
        return "The guardrails were not asked: `--guard` asks them."
    blocking = Counter(finding.guardrail for finding in review.judgement.blocking)
    if blocking:
        told = ", ".join(
            f"`{guardrail.label}` × {blocking[guardrail]:,}" for guardrail in Guardrail if guardrail in blocking
        )
        return f"⛔ **Held back** by {told} (exit status {review.exit_status})."
    if not review.fits:
        return "⚠️ **Meant, but it can't be made as it stands**: a tenant does not fit its plan, and `up` refuses."
    if not review.whole:
        return "⚠️ Nothing holds back what can be told here, and that is not all: see the note."
    meant = len(review.judgement.accepted)
    return f"✅ Nothing holds it back{f': {meant:,} accepted in this change' if meant else ''}."


def _tenants(review: Review, most: int | None) -> Iterator[str]:
    for at, group in enumerate(review.groups):
        yield ("### Tenants\n\n" if at == 0 else "") + tenant_section(group, most)


def _tenants_in(review: Review, groups: int) -> int:
    return sum(len(group.tenants) for group in review.groups[:groups])


def _size(text: str) -> int:
    return len(text.encode())
