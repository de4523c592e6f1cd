"""The guardrails: what blocks a change until its author says, in the change itself, that it is meant."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

__all__ = ["SEVERAL", "Finding", "Guardrail", "exit_status"]

SEVERAL: Final = 16
"""The exit status where more than one guardrail holds a change back."""


class Guardrail(Enum):
    """One kind of harm, with the exit status it ends with where it alone holds a change back."""

    queue_lost = ("queue-lost", 10, "a queue is deleted or replaced, with the messages in it")
    tenant_removed = ("tenant-removed", 11, "a tenant is removed, with all it has")
    plan_does_not_fit = ("plan-does-not-fit", 12, "a tenant has more than its plan allows")
    permission_widened = ("permission-widened", 13, "a tenant's application may do more than before")
    secret_in_plain_text = ("secret-in-plain-text", 14, "a secret stands in a file where everyone reads it")
    limit_lifted = ("limit-lifted", 15, "a limit is raised or taken away without a larger plan")

    def __init__(self, label: str, exit_status: int, meaning: str) -> None:
        self.label = label
        self.exit_status = exit_status
        self.meaning = meaning


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a guardrail has found. A secret's finding belongs to no tenant, and never holds the secret."""

    guardrail: Guardrail
    tenant: str
    object: str
    message: str


def exit_status(findings: Iterable[Finding]) -> int:
    """The status that a review ends with: 0, the one guardrail's, or SEVERAL."""
    found = {finding.guardrail for finding in findings}
    if len(found) > 1:
        return SEVERAL
    return found.pop().exit_status if found else 0
