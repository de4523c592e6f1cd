"""The added lines of a change, searched for secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Final

from kryonix.review.base.git import Revision
from kryonix.review.plain_text import AddedLine, is_read

_MOST_BYTES: Final = 2 * 1024 * 1024  # of an untracked file: larger ones are dumps or builds
_HUNK: Final = re.compile(r"^@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


def added_lines(revision: Revision) -> Iterator[AddedLine]:
    """Yield the lines added since a revision, in files of known kinds."""
    yield from _of_diff(revision.diff().split("\n"))
    for path in revision.untracked():
        file = revision.repository.top / path
        if is_read(path) and file.is_file() and not file.is_symlink() and file.stat().st_size <= _MOST_BYTES:
            yield from added_since(b"", file.read_bytes(), path)


def added_since(before: bytes, after: bytes, name: str) -> Iterator[AddedLine]:
    """Return the lines added from one content to another."""
    was = set(before.decode(errors="replace").split("\n"))
    lines = enumerate(after.decode(errors="replace").split("\n"), 1)
    return (AddedLine(name, number, text) for number, text in lines if text not in was)


def _of_diff(lines: Sequence[str]) -> Iterator[AddedLine]:
    """Yield the added lines of a diff without context. Hunks are counted: their content may look like a header."""
    path, at = "", 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if line.startswith("+++ "):
            path = _path(line[4:])
        elif hunk := _HUNK.match(line):
            at, number, count = at + int(hunk[1] or 1), int(hunk[2]), int(hunk[3] or 1)
            if lines[at : at + 1] and lines[at].startswith("\\"):
                at += 1  # "No newline at end of file", of the side before
            if is_read(path):
                for offset, text in enumerate(lines[at : at + count]):
                    yield AddedLine(path, number + offset, text[1:])
            at += count


def _path(shown: str) -> str:
    """Return a path from a diff's header: git quotes control characters and quotes, and marks spaces with a tab."""
    shown = shown.rstrip("\t")
    if shown.startswith('"'):
        shown = shown[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    return str(PurePosixPath(shown.removeprefix("b/")))
