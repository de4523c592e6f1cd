"""What can be wrong with an input, told so that its author can mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["CapacityExceeded", "InvalidInput", "Problem", "TopologyError", "nearest"]


class TopologyError(Exception):
    """Base of every error of this package: an input that can't be accepted. Nothing has been touched."""

    exit_status = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with one input."""

    file: str
    line: int | None
    field: str
    message: str
    tenant: str | None = None

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        whose = f" tenant {self.tenant!r}" if self.tenant is not None else ""
        field = f" {self.field}:" if self.field else ""
        return f"{place}:{whose}{field} {self.message}"


class InvalidInput(TopologyError):
    """An input with at least one problem; all of them are reported at once."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class CapacityExceeded(InvalidInput):
    """At least one tenant whose modules do not fit its plan."""


def nearest(received: object, allowed: Iterable[str]) -> str:
    """The hint that ends a message: the allowed names, and the one that was probably meant."""
    names = list(allowed)
    close = difflib.get_close_matches(str(received).lower()[:64], names, n=1, cutoff=0.6)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"allowed: {', '.join(names)}{hint}"
