"""Events of a run, and its summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

Op = Literal["same", "create", "update", "replace", "delete", "read", "refresh"]
Status = Literal["started", "done", "failed"]
Severity = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Step:
    """A change of a resource, done or planned. `changed` are names of inputs, without values."""

    urn: str
    name: str
    type: str
    op: Op
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ResourceEvent(Step):
    """Progress of a change. `seconds` is its duration; `error` is set if it failed."""

    status: Status = "done"
    error: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """A message of the program or of the engine; `urn` is empty if it concerns no resource."""

    severity: Severity
    message: str
    urn: str = ""


Event = ResourceEvent | Diagnostic
OnEvent = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Summary:
    """The result of a run. `changes` counts steps by op, `same` included; secret outputs read `[secret]`."""

    changes: dict[str, int]
    steps: tuple[Step, ...]
    outputs: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def changed(self) -> bool:
        """True if anything is, or would be, different after the run."""
        return any(count for op, count in self.changes.items() if op not in ("same", "read"))


def count_changes(steps: Iterable[Step]) -> dict[str, int]:
    """Return the number of steps by op."""
    return dict(Counter(step.op for step in steps))
