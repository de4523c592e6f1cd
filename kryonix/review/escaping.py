"""Values that others wrote, put into Markdown so that they stay what they are: text."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["code", "plain_text", "prose"]

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


def code(value: object) -> str:
    """A value as code: nobody is mentioned by it, nothing is linked, no tag is opened, no table or fold is left."""
    return f"<code>{plain_text(value)}</code>"


def prose(text: str) -> str:
    """A sentence of ours with values of others in it: what stands between single quotes is shown as code."""
    parts = _QUOTED.split(text)
    return "".join(code(part) if at % 2 else _unlinked(part) for at, part in enumerate(parts))


def plain_text(value: object, most: int | None = _MOST) -> str:
    """A value with every character encoded that Markdown, HTML or GitHub reads a meaning into, cut after `most`."""
    text = str(value)
    shown = text if most is None or len(text) <= most else f"{text[: most - 1]}…"
    if not shown.isprintable():
        shown = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in shown)
    encoded = _SAFE_RUN_OR_ONE.sub(lambda found: found[1] or f"&#{ord(found[0])};", shown)
    return _WWW.sub(r"\1&#46;", encoded)


def _unlinked(text: str) -> str:
    """Text outside of code. A space of no width after a character keeps it from beginning a link."""
    return _LINKING.sub("\\g<0>\N{ZERO WIDTH SPACE}", plain_text(text, most=None))
