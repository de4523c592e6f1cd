"""Secrets that stand in plain text in lines that a change adds. What is found is named, never shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from kryonix.review.guardrails import Finding, Guardrail

__all__ = ["AddedLine", "is_read", "secrets_in"]

_DATA: Final = frozenset({".yaml", ".yml", ".json", ".toml", ".ini", ".cfg", ".conf", ".env", ".properties", ".tfvars"})
_CODE: Final = frozenset({".py", ".sh", ".md", ".txt", ".sql", ".tf", ".js", ".ts", ".html", ".xml", ".service", ""})
_LONGEST: Final = 4_000  # characters of a line that are looked at: an expression must not be slow on a minified file

# What is a secret wherever it stands.
_CERTAIN: Final = {
    "a private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"),
    "an AWS access key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a GitHub token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})"),
    "a GitLab token": re.compile(r"\bglpat-[A-Za-z0-9_-]{20,}"),
    "a Pulumi access token": re.compile(r"\bpul-[0-9a-f]{40}\b"),
    "a Slack token": re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
}
_ADDRESS: Final = re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@'\"]{0,80}:([^\s/@'\"]{1,200})@")
_PAIR: Final = re.compile(
    r"""^[\s#;/-]*(?:export\s+)?["']?(?P<key>[\w.:/ -]{1,120}?)["']?\s*(?::(?!\w)|=)\s*(?P<value>.+?)\s*,?\s*$"""
)
_NAMES_ONE: Final = re.compile(
    r"(?:pass(?:word|wd|phrase)?|secret|token|credentials?|api[_-]?key|private[_-]?key|access[_-]?key|dsn)$",
    re.IGNORECASE,
)
_STANDS_FOR_ONE: Final = re.compile(
    r"^$|^[|>&*!{\[]|^\$|^<.*>$|\{\{|^%\w|^v1:|^(?:null|none|true|false|~|-?\d{1,3})$|^\*+$|^\.{3}$|^x{3,}$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class AddedLine:
    """A line that a change adds to a file, or has changed in it."""

    file: str
    number: int
    text: str


def is_read(file: str) -> bool:
    """Whether a file is of a kind that is looked into."""
    return _suffix(file) in _DATA | _CODE


def secrets_in(lines: Iterable[AddedLine]) -> Iterator[Finding]:
    """The secrets in lines that were added."""
    for line in lines:
        for where, what in _found(line):
            message = f"line {line.number} holds {what} in plain text. Take it out, and change it: it has been seen"
            yield Finding(Guardrail.secret_in_plain_text, "", f"{line.file} {where}", message)


def _suffix(file: str) -> str:
    path = PurePosixPath(file)
    return ".env" if path.name.startswith(".env") else path.suffix.lower()


def _found(line: AddedLine) -> Iterator[tuple[str, str]]:
    text = line.text[:_LONGEST]
    for what, pattern in _CERTAIN.items():
        if pattern.search(text):
            yield what, what
    if any(not _STANDS_FOR_ONE.search(match.group(1)) for match in _ADDRESS.finditer(text)):
        yield "an address", "an address with a password"
    elif _suffix(line.file) in _DATA and (key := _secret_key(text)):
        yield key, f"a value for {key!r}"


def _secret_key(text: str) -> str | None:
    """The key of a line that gives a key that names a secret a value of its own."""
    pair = _PAIR.match(text)
    if pair is None:
        return None
    key = re.split(r"[.:/ ]", pair["key"])[-1]
    value = pair["value"].split(" #")[0].strip().strip("\"'")
    if not _NAMES_ONE.search(key) or _STANDS_FOR_ONE.search(value):
        return None
    return pair["key"].strip()
