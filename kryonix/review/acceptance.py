"""Accepted changes: the entries of accepted-changes.yaml, and the findings they accept."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import Field, field_validator

from kryonix.review.guardrails import Finding, Guardrail
from kryonix.topology.document import parse
from kryonix.topology.errors import nearest
from kryonix.topology.model import Model, validated
from kryonix.topology.ownership import accepted

ACCEPTED_FILE: Final = "accepted-changes.yaml"
"""A project's file of accepted findings."""

_LABELS: Final = {guardrail.label: guardrail for guardrail in Guardrail}


class Acceptance(Model):
    """One accepted finding. `*` in an object stands for any text, and the tenant `*` for every tenant."""

    guardrail: str = Field(description="The guardrail")
    tenant: str = Field("", max_length=60, description="The tenant's id; `*` for all; none for a secret in a file")
    object: str = Field(min_length=1, max_length=400, description="The object's name, as in the report")
    reason: str = Field(min_length=3, max_length=1000, description="Why this is intended")

    @field_validator("guardrail")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in _LABELS:
            raise ValueError(f"unknown guardrail {value[:80]!r}; {nearest(value, _LABELS)}")
        return value

    def accepts(self, finding: Finding) -> bool:
        return (
            _LABELS[self.guardrail] is finding.guardrail
            and self.tenant in (finding.tenant, "*")
            and accepted(finding.object, (self.object,))
        )


class _Acceptances(Model):
    accepted: list[Acceptance]


@dataclass(frozen=True, slots=True)
class Judgement:
    """The findings of a change, sorted by its acceptances."""

    blocking: tuple[Finding, ...] = ()
    accepted: tuple[tuple[Finding, Acceptance], ...] = ()
    unmatched: tuple[Acceptance, ...] = ()
    """New entries without a finding: a typo, or the finding is gone."""
    spent: tuple[Acceptance, ...] = ()
    """Entries of the base. They have no effect, and can be removed."""


def parse_acceptances(content: bytes, file: str) -> list[Acceptance]:
    """Return the entries of an accepted-changes.yaml. Raises InvalidInput with every problem of the file."""
    return validated(_Acceptances, parse(content, file)).accepted


def judge(findings: Sequence[Finding], head: Sequence[Acceptance], base: Collection[Acceptance]) -> Judgement:
    """Sort findings into accepted and blocking ones. Only new entries accept findings."""
    fresh = [entry for entry in head if entry not in base]
    matched = [(finding, next((entry for entry in fresh if entry.accepts(finding)), None)) for finding in findings]
    return Judgement(
        blocking=tuple(finding for finding, entry in matched if entry is None),
        accepted=tuple((finding, entry) for finding, entry in matched if entry is not None),
        unmatched=tuple(entry for entry in fresh if not any(entry.accepts(finding) for finding in findings)),
        spent=tuple(entry for entry in head if entry in base),
    )
