"""YAML with line numbers: text to plain values, refusing what a configuration file has no use for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml

from kryonix.topology.errors import MAX_PROBLEMS, InvalidInput, Problem

__all__ = ["MAX_BYTES", "Document", "Path", "parse", "read"]

MAX_BYTES: Final = 4 * 1024 * 1024
"""The largest file that is read, bytes: ten times what 1,000 tenants take."""

_MAX_NODES: Final = 500_000
_MAX_DEPTH: Final = 16

Path = tuple[str | int, ...]

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where PyYAML was built with it: 8 x faster


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file: its value, and the line of each key and item in it."""

    file: str
    value: Any
    lines: dict[Path, int]

    def line(self, path: Path) -> int | None:
        """The line of a place, or of the nearest place around it that is in the file."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return None


def parse(content: bytes, file: str) -> Document:
    """A YAML file's content. Raises InvalidInput for what `read` refuses or finds wrong."""
    document, problems = read(content, file)
    if problems:
        raise InvalidInput(problems)
    return document


def read(content: bytes, file: str) -> tuple[Document, list[Problem]]:
    """A YAML file's content, and what is wrong in it that doesn't hide the rest: keys given twice, unreadable values.

    Raises InvalidInput for what is not UTF-8, too large, no YAML, or expands without bound.
    """
    if len(content) > MAX_BYTES:
        raise _refused(file, None, f"the file has {len(content):,} bytes; at most {MAX_BYTES:,} are read. Split it")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _refused(file, line, f"byte {content[error.start]:#04x} is not UTF-8. Save it as UTF-8") from error
    try:
        _check_depth(text, file)
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _refused(file, mark.line + 1 if mark else None, _explain(error, text)) from error
    except yaml.reader.ReaderError as error:
        line = content.count(b"\n", 0, error.position) + 1
        raise _refused(file, line, f"not readable as YAML: {str(error).splitlines()[0]}") from error
    if node is None:
        raise _refused(file, 1, "the file is empty. Write `tenants:` and a list")
    return _Reader(file, loader).read(node)


def _check_depth(text: str, file: str) -> None:
    """Refuse deep nesting while it is a stream of events: libyaml builds its tree recursively, and would crash."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH:
            raise _refused(
                file,
                event.start_mark.line + 1 if event.start_mark else None,
                f"YAML nested beyond {_MAX_DEPTH} levels. Write it flat",
            )


def _refused(file: str, line: int | None, message: str) -> InvalidInput:
    return InvalidInput([Problem(file, line, "", message)])


def _explain(error: yaml.MarkedYAMLError, text: str) -> str:
    problem = error.problem or "it is not YAML"
    mark = error.problem_mark
    line = dict(enumerate(text.split("\n"))).get(mark.line, "") if mark else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "a tab is used for indentation; YAML wants spaces. Replace it"
    return f"not readable as YAML: {problem}"


class _Reader:
    """Walks a node tree once, keeping lines; aliases count each time they are used, so bombs run out of budget."""

    def __init__(self, file: str, loader: Any) -> None:
        self._file = file
        self._loader = loader
        self._nodes = 0
        self._lines: dict[Path, int] = {}
        self._problems: list[Problem] = []

    def read(self, node: yaml.Node) -> tuple[Document, list[Problem]]:
        value = self._value(node, ())
        return Document(self._file, value, self._lines), self._problems

    def _value(self, node: yaml.Node, path: Path) -> Any:
        self._nodes += 1
        line: int = node.start_mark.line + 1
        if self._nodes > _MAX_NODES or len(path) > _MAX_DEPTH:
            limit = f"{_MAX_NODES:,} values, {_MAX_DEPTH} levels"
            raise _refused(self._file, line, f"anchors and nesting expand beyond {limit}. Write it out plainly")
        self._lines.setdefault(path, line)
        if isinstance(node, yaml.MappingNode):
            return dict(self._entries(node, path))
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _entries(self, node: yaml.MappingNode, path: Path) -> Iterator[tuple[str, Any]]:
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._wrong(line, path, "a key must be a plain name, not a list or mapping")
                continue
            key = str(key_node.value)
            if key in seen:
                message = f"the key {key[:80]!r} is here twice (first on line {seen[key]}). Keep one"
                self._wrong(line, (*path, key), message)
                continue
            seen[key] = line
            self._lines[(*path, key)] = line
            yield key, self._value(value_node, (*path, key))

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        """The value; where there is none, the text, for whoever looks at the rest."""
        try:
            return self._loader.construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError):
            kind = node.tag.rsplit(":", 1)[-1][:40]
            message = f"{str(node.value)[:40]!r} is no plain value ({kind}). Quote it if it is text"
            self._wrong(node.start_mark.line + 1, path, message)
            return str(node.value)

    def _wrong(self, line: int, path: Path, message: str) -> None:
        if len(self._problems) <= MAX_PROBLEMS:
            self._problems.append(Problem(self._file, line, ".".join(map(str, path))[:80], message))
