"""The guardrails: kinds of harm. Each blocks a change until its author accepts it in the change itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

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
