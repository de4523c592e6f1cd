"""What stands at the top of the report: what is touched, what is lost, and what holds the change back."""

from __future__ import annotations

from collections import Counter
from typing import Final

from kryonix.review.escaping import code, prose
from kryonix.review.guardrails import Guardrail
from kryonix.review.report import Review
from kryonix.review.wording import counted

__all__ = ["MARKER", "TITLE", "report_head"]

MARKER: Final = "<!-- kryonix-review -->"
"""The first line of every report, by which the comment that is to be updated is found."""

TITLE: Final = "## What this change does to the tenants"


def report_head(review: Review) -> str:
    """The title, the figures, the verdict and the notes."""
    counts = {kind: review.count(kind) for kind in ("added", "changed", "removed")}
    told = [f"**{counted(count, 'tenant')} {kind}**" for kind, count in counts.items() if count]
    what = ", ".join(told) or "**no tenant is touched**"
    lines = [MARKER, TITLE, "", f"Against {code(review.base)}: {what}.", ""]
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
        found = [guardrail for guardrail in Guardrail if guardrail in blocking]
        told = ", ".join(f"`{guardrail.label}` × {blocking[guardrail]:,}" for guardrail in found)
        return f"⛔ **Held back** by {told} (exit status {review.exit_status})."
    if not review.fits:
        return "⚠️ **Meant, but it can't be made as it stands**: a tenant does not fit its plan, and `up` refuses."
    if not review.complete:
        return "⚠️ Nothing holds back what can be told here, and that is not all: see the note."
    meant = len(review.judgement.accepted)
    return f"✅ Nothing holds it back{f': {meant:,} accepted in this change' if meant else ''}."
