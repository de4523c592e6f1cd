"""The runbooks of the alerts as a page of the service: what an alert means, what to look at, what to do."""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

DOCUMENT: Final = "docs/runbooks.md"
"""Alerts name their section by it, as `docs/runbooks.md#tenantqueuebacklog`."""
ADDRESS: Final = "/runbooks"

_FILE: Final = Path(__file__).parents[2] / DOCUMENT
_ABSENT: Final = (
    f"# Runbooks\n\nThis installation has no `{DOCUMENT}`. It is in the documentation of Kryonix messaging."
)
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>Runbooks · Kryonix tenants</title>
  <link rel="icon" href="icon.svg">
  <link rel="stylesheet" href="page.css">
  <link rel="stylesheet" href="runbooks.css">
</head>
<body>
  <header class="bar">
    <a class="brand" href="/"><img src="icon.svg" alt="" width="28" height="28"> Kryonix tenants</a>
  </header>
  <main><article class="card">
{body}</article></main>
</body>
</html>
"""


@cache
def runbooks_page() -> str:
    """Return the page. Without the document, as in an installation from a wheel, it says where to find it."""
    return _PAGE.replace("{body}", render(_FILE.read_text("utf-8") if _FILE.exists() else _ABSENT))


def render(text: str) -> str:
    """Return Markdown as HTML with an anchor per heading. HTML in the text is shown as text."""
    renderer = MarkdownIt("js-default", {"linkify": False})
    tokens = renderer.parse(text)
    for opening, content in pairwise(tokens):
        if opening.type == "heading_open":
            opening.attrSet("id", anchor(content.content))
        elif opening.type in ("th_open", "td_open"):
            opening.attrs.pop("style", None)  # the page admits no style of its own
    for token in tokens:
        token.children = token.children and _local_links(token.children)
    return str(renderer.renderer.render(tokens, renderer.options, {}))


def anchor(heading: str) -> str:
    """Return a heading's anchor, as GitHub forms it."""
    return re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-")


def _local_links(tokens: list[Token]) -> list[Token]:
    """Leave out links to other documents, which the service does not have; their text stays."""
    kept: list[Token] = []
    dropped = False
    for token in tokens:
        if token.type == "link_open":
            dropped = not str(token.attrGet("href") or "").startswith(("#", "https://"))
            if dropped:
                continue
        if token.type == "link_close" and dropped:
            dropped = False
            continue
        kept.append(token)
    return kept


def runbook_link(annotation: Any) -> str | None:
    """Return where to read a section of our runbooks, or another annotation as it is."""
    if not annotation:
        return None
    document, _, section = str(annotation).partition("#")
    return f"{ADDRESS}#{section}" if document == DOCUMENT else str(annotation)
