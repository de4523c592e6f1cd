"""Errors of input files, with place, rule and remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from kryonix.errors import InvalidChoice

MAX_PROBLEMS: Final = 500
"""Maximum number of problems reported per input. More than this usually means the wrong file was passed."""

_LISTED: Final = 12
"""Allowed names listed beside a near one."""
_LISTED_ALONE: Final = 60


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of one input."""

    file: str
    line: int | None
    field: str
    message: str
    tenant: str | None = None

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        tenant = f" tenant {self.tenant!r}" if self.tenant is not None else ""
        field = f" {self.field}:" if self.field else ""
        return f"{place}:{tenant}{field} {self.message}"


class InvalidInput(InvalidChoice):
    """An input with at least one problem; all are reported at once, up to MAX_PROBLEMS."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems[:MAX_PROBLEMS])
        more = [f"... and more: only the first {MAX_PROBLEMS} problems are shown"] * (len(problems) > MAX_PROBLEMS)
        super().__init__("\n".join([*map(str, self.problems), *more]))


class CapacityExceeded(InvalidInput):
    """At least one tenant whose modules do not fit its plan."""


def printable(text: str) -> str:
    """Return a text with an escape in place of each character that can't be printed."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def shown(text: str, longest: int = 60) -> str:
    """Return a text for a message: cut, with an ASCII form to expose look-alike letters."""
    cut = text if len(text) <= longest else f"{text[: longest - 3]}..."
    return repr(cut) if cut.isascii() else f"{cut!r} ({cut!a})"


def nearest(received: object, allowed: Iterable[str]) -> str:
    """Return the hint at the end of a message: the nearest name, then the allowed ones.

    A long list is left out if one of its names is near, a very long one always.
    """
    names = list(allowed)
    by_lower = {name.lower(): name for name in names}
    text = received.lower()[:64] if isinstance(received, str) else ""
    close = [f"did you mean {by_lower[near]!r}?" for near in difflib.get_close_matches(text, by_lower, n=1)]
    if len(names) > (_LISTED if close else _LISTED_ALONE):
        return close[0] if close else f"none of the {len(names):,} known names is similar"
    listed = f"llowed: {', '.join(names)}"
    return f"{close[0]} A{listed}" if close else f"a{listed}"
