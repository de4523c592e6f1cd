"""What the author of a change has said yes to: the entries of accepted-changes.yaml, and the findings they answer."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from pydantic import Field, field_validator

from kryonix.review.guardrails import Finding, Guardrail
from kryonix.topology.document import parse
from kryonix.topology.errors import InvalidInput, nearest
from kryonix.topology.model import Model, validate

__all__ = ["ACCEPTED_FILE", "Acceptance", "Judgement", "judge", "parse_acceptances"]

ACCEPTED_FILE: Final = "accepted-changes.yaml"
"""Where a change says which of its harm is meant."""

_LABELS: Final = {guardrail.label: guardrail for guardrail in Guardrail}


class Acceptance(Model):
    """One yes. `*` in an object stands for any text, and a tenant of `*` for every tenant."""

    guardrail: str = Field(description="Which guardrail is answered")
    tenant: str = Field("", max_length=60, description="The tenant's id; `*` for all; left out for a secret in a file")
    object: str = Field(min_length=1, max_length=400, description="The object's name, as the report tells it")
    reason: str = Field(min_length=3, max_length=1000, description="Why this is meant")

    @field_validator("guardrail")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in _LABELS:
            raise ValueError(f"unknown guardrail {value[:80]!r}; {nearest(value, _LABELS)}")
        return value

    def answers(self, finding: Finding) -> bool:
        return (
            _LABELS[self.guardrail] is finding.guardrail
            and self.tenant in (finding.tenant, "*")
            and fnmatchcase(finding.object, self.object.replace("[", "[[]").replace("?", "[?]"))
        )


class _Acceptances(Model):
    accepted: list[Acceptance]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is left of the findings once the acceptances of a change are heard."""

    blocking: tuple[Finding, ...] = ()
    accepted: tuple[tuple[Finding, Acceptance], ...] = ()
    unmatched: tuple[Acceptance, ...] = ()
    """Entries of this change that answer nothing: a slip of the pen, or a harm that is no longer done."""
    spent: tuple[Acceptance, ...] = ()
    """Entries that stood in the base already. They count no more, and may be removed."""


def parse_acceptances(content: bytes, file: str) -> list[Acceptance]:
    """The entries of an accepted-changes.yaml. Raises InvalidInput with every problem of the file."""
    found, problems = validate(_Acceptances, parse(content, file))
    if found is None or problems:
        raise InvalidInput(problems)
    return found.accepted


def judge(findings: Sequence[Finding], head: Sequence[Acceptance], base: Collection[Acceptance]) -> Judgement:
    """Sort findings by whether the change itself says yes to them."""
    fresh = [entry for entry in head if entry not in base]
    answered = [(finding, next((a for a in fresh if a.answers(finding)), None)) for finding in findings]
    return Judgement(
        blocking=tuple(finding for finding, entry in answered if entry is None),
        accepted=tuple((finding, entry) for finding, entry in answered if entry is not None),
        unmatched=tuple(entry for entry in fresh if not any(entry.answers(finding) for finding in findings)),
        spent=tuple(entry for entry in head if entry in base),
    )
