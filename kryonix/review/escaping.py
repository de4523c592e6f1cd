"""Escape foreign values for Markdown, and format counts, names and steps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from kryonix.review.differences import Action, FieldChange
from kryonix.topology.errors import printable
from kryonix.topology.objects import KINDS

_MOST: Final = 240
# Letters, digits and what never means anything; `_` between two of them too, since it is in most of our names.
_SAFE: Final = r"""[^\W_]|[ ,/;="'()%+?.…-]|:(?= )|(?<=[a-z0-9])_(?=[a-z0-9])"""
_SAFE_RUN_OR_ONE: Final = re.compile(rf"((?:{_SAFE})+)|.", re.IGNORECASE | re.DOTALL)
_WWW: Final = re.compile(r"(www)\.", re.IGNORECASE)
_QUOTED: Final = re.compile(r"(?<!\w)'([^']+)'(?!\w)")  # an apostrophe stands between letters
# What GitHub and GitLab make links of in text, after they have decoded it, as `plain_text` writes it: @name, #1, !1,
# $1, &1, ~label, %1, GH-1 and GL-1, the beginning of an address. Commits are ours; scripts/comment parts those.
_LINKING: Final = re.compile(
    r"&#(?:64|35|33|36|38|126);|%(?=\w)|G[HL]-(?=\d)|&#58;(?=//)|www(?=&#46;)",
    re.IGNORECASE,
)

DONE: Final[dict[Action, str]] = {
    "add": "added",
    "remove": "deleted",
    "replace": "replaced",
    "change": "changed in place",
}
_PLURALS: Final = {kind.name: kind.plural for kind in KINDS.values()}


def code(value: object) -> str:
    """Return a value as code. It can't mention anybody, link, open a tag, or end a table or fold."""
    return f"<code>{plain_text(value)}</code>"


def prose(text: str) -> str:
    """Return our own sentence with foreign values: everything in single quotes becomes code."""
    parts = _QUOTED.split(text)
    return "".join(code(part) if at % 2 else _unlinked(part) for at, part in enumerate(parts))


def plain_text(value: object, most: int | None = _MOST) -> str:
    """Return a value, cut after `most`, without characters special to Markdown, HTML or GitHub."""
    text = str(value)
    shown = printable(text if most is None or len(text) <= most else f"{text[: most - 1]}…")
    encoded = _SAFE_RUN_OR_ONE.sub(lambda found: found[1] or f"&#{ord(found[0])};", shown)
    return _WWW.sub(r"\1&#46;", encoded)


def _unlinked(text: str) -> str:
    """Return text outside of code. A zero-width space after a character keeps it from starting a link."""
    return _LINKING.sub("\\g<0>\N{ZERO WIDTH SPACE}", plain_text(text, most=None))


def counted(count: int, noun: str) -> str:
    return f"{count:,} {noun if count == 1 else _PLURALS.get(noun, f'{noun}s')}"


def names(values: Sequence[str], most: int | None) -> str:
    """Return a list of values as code, cut after `most`."""
    shown = ", ".join(code(value) for value in values[:most])
    return shown if most is None or len(values) <= most else f"{shown} and {len(values) - most:,} more"


def cut(count: int, most: int | None, begin: str = "\n") -> list[str]:
    """Return the last line of a list of `count` that is cut after `most`, if it is."""
    return [] if most is None or count <= most else [f"{begin}and {count - most:,} more, in the full report"]


def step(field: FieldChange) -> str:
    return f"{value_or_none(field.before)} → {value_or_none(field.after)}"


def value_or_none(value: Any) -> str:
    return "none" if value is None else code(value)
