"""Read YAML into plain values and models, and report every problem with its line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from kryonix.topology.errors import MAX_PROBLEMS, InvalidInput, Problem, nearest, shown

MAX_BYTES: Final = 4 * 1024 * 1024
"""The largest file accepted, in bytes: ten times the size of 1,000 tenants."""

_MAX_NODES: Final = 500_000
_MAX_DEPTH: Final = 16

Path = tuple[str | int, ...]

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where PyYAML was built with it: 8 x faster


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file: its value, and the line of each key and item."""

    file: str
    value: Any
    lines: dict[Path, int]

    def at(self, path: Path) -> Any:
        """Return the value at an existing path."""
        return reduce(lambda value, step: value[step], path, self.value)

    def line(self, path: Path) -> int | None:
        """Return the line of a path, or of its nearest parent in the file."""
        parents = (path[:end] for end in range(len(path), -1, -1))
        return next((self.lines[parent] for parent in parents if parent in self.lines), None)


def parse(content: bytes, file: str) -> Document:
    """Return a YAML file's content. Raises InvalidInput with every problem found by `read`."""
    document, problems = read(content, file)
    if problems:
        raise InvalidInput(problems)
    return document


def read(content: bytes, file: str, texts: dict[Path, str] | None = None) -> tuple[Document, list[Problem]]:
    """Return a YAML file's content, and the problems with the rest still readable: duplicate keys, unreadable values.

    `texts` receives each scalar as written. Raises InvalidInput if the file is not UTF-8, too large, not YAML, or
    expands without bound.
    """
    if len(content) > MAX_BYTES:
        raise _refused(file, None, f"the file has {len(content):,} bytes; the limit is {MAX_BYTES:,}. Split it")
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
        raise _refused(file, 1, "the file is empty, or has only comments")
    return _Reader(file, loader, texts).read(node)


def _check_depth(text: str, file: str) -> None:
    """Refuse deep nesting before a tree is built: libyaml builds it recursively, and would crash."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH:
            line = event.start_mark.line + 1 if event.start_mark else None
            raise _refused(file, line, f"YAML nested beyond {_MAX_DEPTH} levels. Flatten it")


def _refused(file: str, line: int | None, message: str) -> InvalidInput:
    return InvalidInput([Problem(file, line, "", message)])


def _explain(error: yaml.MarkedYAMLError, text: str) -> str:
    problem = error.problem or "it is not YAML"
    mark = error.problem_mark
    line = dict(enumerate(text.split("\n"))).get(mark.line, "") if mark else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "the line is indented with a tab; YAML allows only spaces. Replace it"
    if isinstance(error, yaml.composer.ComposerError):
        return f"not readable as YAML: {problem}"
    remedy = "Close every bracket and quote, indent with spaces, and quote text with ': ' or ' #' in it"
    return f"not readable as YAML: {problem}. {remedy}"


class _Reader:
    """Walk a node tree once and keep its lines. Every use of an alias counts, so bombs run out of budget."""

    def __init__(self, file: str, loader: Any, texts: dict[Path, str] | None) -> None:
        self._file = file
        self._loader = loader
        self._texts = texts
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
            raise _refused(self._file, line, f"anchors and nesting expand beyond {limit}. Write the values out")
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
                self._wrong(line, path, "a key must be a name, not a list or mapping")
                continue
            if key_node.tag == "tag:yaml.org,2002:merge":
                # At once: the fields it would bring would be reported as missing.
                raise _refused(self._file, line, "merge keys (`<<`) are not supported. Write out the fields instead")
            key = str(key_node.value)
            if key in seen:
                message = f"the key {key[:80]!r} is duplicated (first on line {seen[key]}). Keep one"
                self._wrong(line, (*path, key), message)
                continue
            seen[key] = line
            self._lines[(*path, key)] = line
            yield key, self._value(value_node, (*path, key))

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        """Return the value, or an unreadable value's text: the rest of the file is still checked."""
        if self._texts is not None:
            self._texts[path] = str(node.value)
        try:
            return self._loader.construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError):
            kind = node.tag.rsplit(":", 1)[-1][:40]
            message = f"{str(node.value)[:40]!r} is not a valid value ({kind}). Quote it if it is text"
            self._wrong(node.start_mark.line + 1, path, message)
            return str(node.value)

    def _wrong(self, line: int, path: Path, message: str) -> None:
        if len(self._problems) <= MAX_PROBLEMS:
            self._problems.append(Problem(self._file, line, ".".join(map(str, path))[:80], message))


M = TypeVar("M", bound=BaseModel)

_EXPECTED: Final[Mapping[str, str]] = {
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "bool_type": "true or false",
    "int_type": "a whole number",
}


class Model(BaseModel):
    """Base of all input models: immutable, no conversions, no unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


def as_tuple(value: Any) -> Any:
    """Return a list as a tuple: YAML and JSON have only lists, and the models are immutable."""
    return tuple(value) if isinstance(value, list) else value


def validated(model: type[M], document: Document) -> M:
    """Return a document as a model. Raises InvalidInput with every problem."""
    found, problems = validate(model, document)
    if found is None:
        raise InvalidInput(problems)
    return found


def validate(model: type[M], document: Document, at: Path = ()) -> tuple[M | None, list[Problem]]:
    """Return the part of a document at a path as a model, or None and every problem in it."""
    try:
        return model.model_validate(document.at(at)), []
    except ValidationError as error:
        problems = []
        for details in error.errors(include_url=False)[: MAX_PROBLEMS + 1]:
            where = tuple(step for step in details["loc"] if step != "[key]")
            field = ".".join(str(step)[:80] for step in where)
            problems.append(Problem(document.file, document.line((*at, *where)), field, _message(model, details)))
        return None, problems


def _message(model: type[BaseModel], details: ErrorDetails) -> str:
    received, context = details["input"], details.get("ctx", {})
    match details["type"]:
        case "missing":
            return f"the required field {details['loc'][-1]!r} is missing. Add it"
        case "extra_forbidden":
            name = str(details["loc"][-1])
            return f"unknown field {shown(name)}; {nearest(name, _fields(model, details['loc']))}"
        case "literal_error":
            allowed = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
            return f"{_shown(received)} is not allowed; {nearest(received, allowed)}"
        case "value_error":
            return str(context["error"])
        case "too_short":
            return "expected at least one entry; got none"
        case "string_pattern_mismatch":
            return f"{_shown(received)} does not match the pattern {context['pattern']}"
        case "string_too_long":
            return f"{shown(str(received))} is too long: at most {context['max_length']} characters"
        case kind if kind in _EXPECTED:
            alone = _EXPECTED[kind] == "a list" and isinstance(received, str) and re.fullmatch(r"[\w-]{1,40}", received)
            example = f", such as [{received}]" if alone else ""
            return f"expected {_EXPECTED[kind]}{example}; got {_shown(received)}"
    return f"{details['msg']}; got {_shown(received)}"


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"{'a mapping' if isinstance(value, dict) else 'a list'} of {len(value)}"
    return "nothing" if value is None else repr(value)[:80]


def _fields(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    """Return the fields allowed at a location, followed into nested models."""
    for step in loc[:-1]:
        if isinstance(step, str) and step in model.model_fields:
            annotation = model.model_fields[step].annotation
            nested = [a for a in (annotation, *get_args(annotation)) if isinstance(a, type)]
            model = next((a for a in reversed(nested) if issubclass(a, BaseModel)), model)
    return list(model.model_fields)
