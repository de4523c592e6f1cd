"""A report as rendered by GitHub's Markdown, parsed."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

from markdown_it import MarkdownIt

_VOID = {"br", "hr", "img"}


@dataclass
class Rendered(HTMLParser):
    """The tags of a page, the texts in code, and the texts outside of it."""

    tags: set[str] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)
    codes: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    summaries: int = 0
    rows: list[list[str]] = field(default_factory=list)
    unbalanced: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[str] = []

    @classmethod
    def of(cls, markdown: str) -> Rendered:
        made = cls()
        made.feed(MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(markdown))
        made.close()
        made.unbalanced += made._open
        return made

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in _VOID:
            self._open.append(tag)
        if tag == "code":
            self.codes.append("")
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        self.summaries += tag == "summary"

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        if "td" in self._open or "th" in self._open:
            self.rows[-1][-1] += data
        if "code" in self._open:
            self.codes[-1] += data
        else:
            self.texts.append(data)
