"""Reads the YAML of a project or a stack with what Pulumi's own reader keeps: text as written, and line numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kryonix.engines.local.errors import ConfigError

__all__ = ["Entry", "Mapping", "read"]

MAX_BYTES = 1_000_000
MAX_VALUES = 50_000


@dataclass(frozen=True, slots=True)
class Entry:
    """A value: `data` is plain Python, `text` a scalar as it was written (None for a list or a mapping)."""

    line: int
    data: Any
    text: str | None

    def __repr__(self) -> str:
        return f"Entry(line={self.line})"


Mapping = dict[str, Entry]


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.values = 0

    def mapping(self, node: yaml.Node | None) -> Mapping:
        if node is None or (isinstance(node, yaml.ScalarNode) and node.value == ""):
            return {}
        if not isinstance(node, yaml.MappingNode):
            raise self.error(node, "is not a mapping of names to values")
        return {name: self.entry(value) for name, value in self.pairs(node)}

    def pairs(self, node: yaml.MappingNode) -> list[tuple[str, yaml.Node]]:
        pairs = [(str(key.value), value) for key, value in node.value]
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.error(key, "has a name that is not text")
            if key.value in seen:
                raise self.error(key, f"has the name {key.value!r} twice")
            seen.add(key.value)
        return pairs

    def entry(self, node: yaml.Node) -> Entry:
        text = node.value if isinstance(node, yaml.ScalarNode) else None
        if text is not None and node.tag == "tag:yaml.org,2002:null":
            text = ""
        return Entry(line=node.start_mark.line + 1, data=self.plain(node), text=text)

    def plain(self, node: yaml.Node) -> Any:
        self.values += 1
        if self.values > MAX_VALUES:
            raise self.error(node, f"holds more than {MAX_VALUES} values; aliases count each time they are used")
        if isinstance(node, yaml.MappingNode):
            return {key: self.plain(value) for key, value in self.pairs(node)}
        if isinstance(node, yaml.SequenceNode):
            return [self.plain(item) for item in node.value]
        return yaml.SafeLoader("").construct_object(node)

    def error(self, node: yaml.Node, problem: str) -> ConfigError:
        return ConfigError((f"{self.path}, line {node.start_mark.line + 1}: {problem}.",))


def read(path: Path) -> dict[str, Mapping | Entry]:
    """The file's top level: mappings as mappings of entries, all else as entries. Raises `ConfigError`."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError((f"{path} has {path.stat().st_size} bytes; at most {MAX_BYTES} are read.",))
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigError((f"{path} can't be read: {error.strerror}.",)) from error
    except UnicodeDecodeError as error:
        raise ConfigError((f"{path} is not UTF-8 text: byte {error.start} can't be read.",)) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError((f"{path} is not YAML: {_one_line(error)}",)) from error
    return _top(_Reader(path), node)


def _top(reader: _Reader, node: yaml.Node | None) -> dict[str, Mapping | Entry]:
    if node is None:
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise reader.error(node, "is not a mapping of names to values")
    try:
        return {
            name: reader.mapping(value) if isinstance(value, yaml.MappingNode) else reader.entry(value)
            for name, value in reader.pairs(node)
        }
    except (RecursionError, ValueError) as error:
        raise ConfigError((f"{reader.path} can't be read: {_one_line(error)}",)) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
