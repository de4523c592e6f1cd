"""The report as a comment on a pull request: short at the top, details folded, never longer than a comment may be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from kryonix.review.escaping import code, prose
from kryonix.review.finding_section import finding_sections
from kryonix.review.overview import overview
from kryonix.review.report import Group, Review
from kryonix.review.report_head import MARKER, TITLE, report_head
from kryonix.review.tenant_section import tenant_section
from kryonix.review.tenant_summary import tenant_summary
from kryonix.review.wording import counted

__all__ = ["LONGEST_COMMENT", "MARKER", "SHORTEST_REPORT", "markdown", "refusal"]

LONGEST_COMMENT: Final = 65_536
"""What a comment on GitHub may have, in characters; held in bytes, which are never fewer."""

SHORTEST_REPORT: Final = 4_000
"""Bytes below which not even the summary is sure to fit."""

_LINES: Final = 25
_SHORT_LINES: Final = 3
_FOOTER: Final = 600
_FEW: Final = 5  # folds that a reader opens one by one; beyond, what they have in common is told first


def markdown(review: Review, *, limit: int | None = None, full: str | None = None) -> str:
    """The report. With a limit in bytes, folds become lines where there is no room, and it says where the whole is."""
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
    """The report of a change that can't be read."""
    head = [MARKER, TITLE, "", f"⛔ **Not reviewed: it can't be accepted as it stands.** Against {code(base)}.", ""]
    lines = [f"- {prose(problem)}" for problem in problems]
    shown = lines if limit is None else _fitting(lines, limit - _FOOTER - _size(head))
    cut = [f"- and {len(lines) - len(shown):,} more"] if len(shown) < len(lines) else []
    return "\n".join([*head, *shown, *cut, ""])


def _whole(review: Review) -> list[str]:
    return [*_head(review, None), *_titled(tenant_section(group, None) for group in review.groups)]


def _head(review: Review, most: int | None) -> Iterator[str]:
    yield report_head(review)
    if review.judgement is not None:
        yield from finding_sections(review.judgement, most)
    if len(review.groups) > _FEW:
        yield overview(review.differences, most)


def _fitting_head(review: Review, room: int) -> list[str]:
    for lines in (_LINES, _SHORT_LINES):
        head = list(_head(review, lines))
        if _size(head) <= room:
            return head
    return [report_head(review)]  # names of extraordinary length


def _fitting_tenants(groups: Sequence[Group], room: int) -> tuple[list[str], int]:
    """The folds that fit, then lines for more, and how many tenants are left."""
    folds = _fitting((tenant_section(group, _LINES) for group in groups), room)
    if len(folds) == len(groups):
        return folds, 0
    shown = _fitting(folds, room // 2)
    lines = (f"- {tenant_summary(group)}" for group in groups[len(shown) :])
    told = _fitting(lines, room - _size(shown))
    left = sum(len(group.tenants) for group in groups[len(shown) + len(told) :])
    return [*shown, "\n".join([*told, ""])], left


def _titled(tenants: Iterable[str]) -> Iterator[str]:
    for at, section in enumerate(tenants):
        yield f"### Tenants\n\n{section}" if at == 0 else section


def _fitting(texts: Iterable[str], room: int) -> list[str]:
    """Return the first texts that fit. Later ones are not even rendered: a fleet has thousands."""
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
