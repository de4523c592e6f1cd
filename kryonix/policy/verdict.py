"""What the guardrails say of a stack's tenants: what holds its change back, once the acceptances are heard."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kryonix.policy.stack import Base
from kryonix.policy.tenants import StackTenant
from kryonix.review.acceptance import ACCEPTED_FILE, Acceptance, judge
from kryonix.review.base.added_lines import added_lines
from kryonix.review.differences import differences
from kryonix.review.guardrails import Finding, Guardrail
from kryonix.review.plain_text import secrets_in
from kryonix.review.rules import find
from kryonix.review.standing import standing_findings

__all__ = ["blocking", "blocking_lines", "told"]


def blocking(
    guardrail: Guardrail, tenants: Sequence[StackTenant], base: Base | None, accepted: Sequence[Acceptance]
) -> tuple[Finding, ...]:
    """What one guardrail has to say.

    What differs from the base is answered by entries that are new since the base. What breaks a rule whatever the base
    was is answered by any entry, for as long as both stand.
    """
    standing = (finding for tenant in tenants for finding in standing_findings(tenant.standing))
    held = judge([f for f in standing if f.guardrail is guardrail], accepted, ()).blocking
    if base is None:
        return held
    after = [tenant.standing.topology for tenant in tenants]
    found = (finding for each in differences(base.topologies, after) for finding in find(each))
    changed = judge([f for f in found if f.guardrail is guardrail], accepted, base.accepted).blocking
    return _each_once((*changed, *held))


def blocking_lines(base: Base, accepted: Sequence[Acceptance]) -> tuple[Finding, ...]:
    """The secrets in lines that were added to the project since the base."""
    return judge(tuple(secrets_in(added_lines(base.revision))), accepted, base.accepted).blocking


def told(finding: Finding) -> str:
    """A finding with the entry that would say yes to it."""
    whose, entry = (f"tenant {finding.tenant!r}: ", f", tenant: {finding.tenant}") if finding.tenant else ("", "")
    named = f"guardrail: {finding.guardrail.label}{entry}, object: {finding.object!r}"
    return (
        f"{whose}{finding.object}: {finding.message}\n"
        f"Is it meant? Say so in {ACCEPTED_FILE}, in this change: {{{named}, reason: …}}"
    )


def _each_once(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Of findings about the same thing the first: that of the comparison, which tells what it was before."""
    return tuple({(f.tenant, f.object): f for f in reversed(tuple(findings))}.values())[::-1]
