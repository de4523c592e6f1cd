"""Find secrets in plain text in the added lines of a change. Findings name them and never show them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from kryonix.review.guardrails import Finding, Guardrail

_DATA: Final = frozenset({".yaml", ".yml", ".json", ".toml", ".ini", ".cfg", ".conf", ".env", ".properties", ".tfvars"})
_CODE: Final = frozenset({".py", ".sh", ".md", ".txt", ".sql", ".tf", ".js", ".ts", ".html", ".xml", ".service", ""})
_TESTS: Final = frozenset({"test", "tests"})  # folders full of throw-away passwords: only certain secrets count there
_REMEDY_UNTRACKED: Final = (
    "git does not track this file yet: add it to .gitignore (*.credentials.json is), or move it out of the repository"
)
_LONGEST: Final = 4_000  # characters searched of a line: an expression must not be slow on a minified file

# Secrets in any context.
_CERTAIN: Final = {
    "a private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"),
    "an AWS access key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a GitHub token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})"),
    "a GitLab token": re.compile(r"\bglpat-[A-Za-z0-9_-]{20,}"),
    "a Pulumi access token": re.compile(r"\bpul-[0-9a-f]{40}\b"),
    "a Slack token": re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
}
_ADDRESS: Final = re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@'\"]{0,80}:([^\s/@'\"]{1,200})@")
# A key that names a secret, and its value. A value with more words after it is a sentence.
_PAIR: Final = re.compile(
    r"""(?P<key>[\w.:-]*?(?i:password|passwd|passphrase|secret|token|credentials?|(?:api|private|access)[_-]?key
        |(?<![a-z])(?:pass|pwd|dsn)))["']?\s*(?:[:=]\s+|=|(?<=["']):)
        (?P<value>"[^"]*"|'[^']*'|[^\s,"'}\]]+)\s*(?:$|[,}\]]|\s\#)""",
    re.VERBOSE,
)
_STANDS_FOR_ONE: Final = re.compile(
    r"^$|^[|>&*!{\[]|^\$|^<.*>$|\{|^%\w|^v1:|^(?:null|none|true|false|~|-?\d{1,3}|read|write|inherit)$"
    r"|^\*+$|^(?:\.{3}|…)$|^x{3,}$|^(?-i:[A-Z_]+)$",
    re.IGNORECASE,
)
_HUNK: Final = re.compile(r"^@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


@dataclass(frozen=True, slots=True)
class AddedLine:
    """An added or changed line of a file."""

    file: str
    number: int
    text: str
    untracked: bool = False


def is_read(file: str) -> bool:
    """Return True if a file of this name is searched."""
    return _suffix(file) in _DATA | _CODE


def added_since(before: bytes, after: bytes, name: str, *, untracked: bool = False) -> Iterator[AddedLine]:
    """Return the lines added from one content to another."""
    was = set(before.decode(errors="replace").split("\n"))
    lines = enumerate(after.decode(errors="replace").split("\n"), 1)
    return (AddedLine(name, number, text, untracked) for number, text in lines if text not in was)


def lines_of_diff(lines: Sequence[str]) -> Iterator[AddedLine]:
    """Yield the added lines of a diff. Hunks are counted: their content may look like a header."""
    path, removed, added, number = "", 0, 0, 0
    for line in lines:
        if removed > 0 or added > 0:
            sign = line[:1]
            if sign == "\\":  # "No newline at end of file"
                continue
            if sign == "+" and is_read(path):
                yield AddedLine(path, number, line[1:])
            removed -= sign != "+"
            added -= sign != "-"
            number += sign != "-"
        elif line.startswith("+++ "):
            path = _path(line[4:])
        elif hunk := _HUNK.match(line):
            removed, number, added = int(hunk[1] or 1), int(hunk[2]), int(hunk[3] or 1)


def _path(shown: str) -> str:
    """Return a path from a diff's header: git quotes control characters and quotes, and marks spaces with a tab."""
    shown = shown.rstrip("\t")
    if shown.startswith('"'):
        shown = shown[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    return str(PurePosixPath(shown.removeprefix("b/")))


def secrets_in(lines: Iterable[AddedLine]) -> Iterator[Finding]:
    """Yield the secrets in added lines."""
    for line in lines:
        for where, what in _found(line):
            remedy = _REMEDY_UNTRACKED if line.untracked else "Remove it, and replace it: it has been exposed"
            message = f"line {line.number} has {what} in plain text. {remedy}"
            yield Finding(Guardrail.secret_in_plain_text, "", f"{line.file} {where}", message)


def _suffix(file: str) -> str:
    path = PurePosixPath(file)
    return ".env" if path.name.startswith(".env") else path.suffix.lower()


def _found(line: AddedLine) -> Iterator[tuple[str, str]]:
    text = line.text[:_LONGEST]
    for what, pattern in _CERTAIN.items():
        if pattern.search(text):
            yield what, what
    if _TESTS & set(PurePosixPath(line.file).parts):
        return
    if any(not _STANDS_FOR_ONE.search(match.group(1)) for match in _ADDRESS.finditer(text)):
        yield "an address", "an address with a password"
    elif _suffix(line.file) in _DATA:
        for pair in _PAIR.finditer(text):
            if not _STANDS_FOR_ONE.search(pair["value"].strip("\"'")):
                yield pair["key"], f"a value for '{pair['key']}'"
