"""What a run tells its caller while it goes, and what it sums up at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Diagnostic", "Event", "Op", "ResourceEvent", "Severity", "Status", "Step", "Summary", "count_changes"]

Op = Literal["same", "create", "update", "replace", "delete", "read", "refresh"]
Status = Literal["started", "done", "failed"]
Severity = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class ResourceEvent:
    """One resource's progress. `seconds` is the time the change took; `error` is set where it failed."""

    urn: str
    name: str
    type: str
    op: Op
    status: Status
    changed: tuple[str, ...] = ()
    error: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """A message of the program or of the engine; `urn` is empty where it concerns no resource."""

    severity: Severity
    message: str
    urn: str = ""


Event = ResourceEvent | Diagnostic
OnEvent = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Step:
    """What was done to a resource, or would be. `changed` are names of inputs; values are never told."""

    urn: str
    name: str
    type: str
    op: Op
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """A run's result. `changes` counts steps by op, `same` included; secret outputs read `[secret]`."""

    changes: dict[str, int]
    steps: tuple[Step, ...]
    outputs: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def changed(self) -> bool:
        """Whether anything is, or would be, different after the run."""
        return any(count for op, count in self.changes.items() if op not in ("same", "read"))


def count_changes(steps: Iterable[Step]) -> dict[str, int]:
    """How many steps of each op there are."""
    return dict(Counter(step.op for step in steps))
