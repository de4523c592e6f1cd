"""Values that others wrote, put into Markdown so that they stay what they are: text."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["code", "plain_text"]

_MOST: Final = 240
# Letters, digits and what never means anything; `_` between two of them too, since it is in most of our names.
_SAFE: Final = re.compile(r"[^\W_]|[ ,/;=\"'()%+?.-]|(?<=[a-z0-9])_(?=[a-z0-9])", re.IGNORECASE)


def code(value: object) -> str:
    """A value as code: nobody is mentioned by it, nothing is linked, no tag is opened, no table or fold is left."""
    return f"<code>{plain_text(value)}</code>"


def plain_text(value: object) -> str:
    """A value with every character encoded that Markdown, HTML or GitHub reads a meaning into."""
    text = str(value)
    shown = text if len(text) <= _MOST else f"{text[: _MOST - 1]}…"
    visible = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in shown)
    safe = {match.start() for match in _SAFE.finditer(visible)}
    encoded = "".join(each if at in safe else f"&#{ord(each)};" for at, each in enumerate(visible))
    return re.sub(r"www\.", "www&#46;", encoded, flags=re.IGNORECASE)
