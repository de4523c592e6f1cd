"""The guardrails, their findings, and the entries of accepted-changes.yaml that accept findings."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from pydantic import Field, field_validator

from kryonix.topology.document import Model, parse, validated
from kryonix.topology.errors import nearest
from kryonix.topology.ownership import accepted

SEVERAL: Final = 16
"""The exit status if more than one guardrail blocks a change."""


class Guardrail(Enum):
    """One kind of harm, with the exit status if it alone blocks a change."""

    queue_lost = ("queue-lost", 10, "a queue is deleted or replaced, with the messages in it")
    tenant_removed = ("tenant-removed", 11, "a tenant is removed, with all its objects")
    plan_does_not_fit = ("plan-does-not-fit", 12, "a tenant exceeds its plan")
    permission_widened = ("permission-widened", 13, "a tenant's application gets more permissions")
    secret_in_plain_text = ("secret-in-plain-text", 14, "a file has a secret in plain text")
    limit_lifted = ("limit-lifted", 15, "a limit is raised or removed without a larger plan")

    def __init__(self, label: str, exit_status: int, meaning: str) -> None:
        self.label = label
        self.exit_status = exit_status
        self.meaning = meaning


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding of a guardrail. The finding of a secret has no tenant, and never contains the secret."""

    guardrail: Guardrail
    tenant: str
    object: str
    message: str


def exit_status(findings: Iterable[Finding]) -> int:
    """Return a review's exit status: 0, the one guardrail's, or SEVERAL."""
    found = {finding.guardrail for finding in findings}
    if len(found) > 1:
        return SEVERAL
    return found.pop().exit_status if found else 0


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
