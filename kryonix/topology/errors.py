"""What can be wrong with an input, told so that its author can mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from kryonix.errors import KryonixError

__all__ = ["MAX_PROBLEMS", "CapacityExceeded", "InvalidInput", "Problem", "TopologyError", "nearest", "shown"]

MAX_PROBLEMS: Final = 500
"""How many problems of one input are looked for: who has more has taken another file for it."""


class TopologyError(KryonixError):
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
    """An input with at least one problem; all of them are reported at once, the first MAX_PROBLEMS at most."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems[:MAX_PROBLEMS])
        more = [f"... these are the first {MAX_PROBLEMS} problems; there are more"] * (len(problems) > MAX_PROBLEMS)
        super().__init__("\n".join([*map(str, self.problems), *more]))


class CapacityExceeded(InvalidInput):
    """At least one tenant whose modules do not fit its plan."""


def shown(text: str, longest: int = 60) -> str:
    """A text as a message shows it: cut, and spelled out where it has letters that may look like others."""
    cut = text if len(text) <= longest else f"{text[: longest - 3]}..."
    return repr(cut) if cut.isascii() else f"{cut!r} ({cut!a})"


def nearest(received: object, allowed: Iterable[str]) -> str:
    """The hint that ends a message: the allowed names, and the one that was probably meant."""
    names = list(allowed)
    close = difflib.get_close_matches(str(received).lower()[:64], names, n=1, cutoff=0.6)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"allowed: {', '.join(names)}{hint}"
