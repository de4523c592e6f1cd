"""What a resource type's inputs look like, as a table: how a value is checked, and when two values are the same.

The same table serves every handler, so that defaults, coercions and the notion of "unchanged" can't differ between
resource types. The rules are those of the provider plugins: an absent value, an empty one and the default are equal;
sets have no order; JSON is compared by meaning.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from enum import Enum, auto
from typing import Any, Final

from kryonix.engines.local.handlers.base import UNKNOWN, Diff, Properties

__all__ = ["Field", "Fields", "Kind", "canonical", "checked", "difference"]


class Kind(Enum):
    """The shapes a value can have."""

    TEXT = auto()
    WHOLE = auto()
    FLAG = auto()
    JSON = auto()
    TEXT_MAP = auto()
    TEXT_LIST = auto()
    TEXT_SET = auto()
    BLOCK = auto()
    BLOCK_LIST = auto()
    BLOCK_SET = auto()


_BLOCKS: Final = frozenset({Kind.BLOCK_LIST, Kind.BLOCK_SET})
_TEXTS: Final = frozenset({Kind.TEXT_LIST, Kind.TEXT_SET})
_SETS: Final = frozenset({Kind.TEXT_SET, Kind.BLOCK_SET})


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One input. `replaces`: a change of it makes a new resource. `pattern`: what the whole text must match."""

    kind: Kind = Kind.TEXT
    required: bool = False
    default: Any = None
    replaces: bool = False
    pattern: str = ""
    fields: Mapping[str, Field] = dataclass_field(default_factory=dict)


Fields = Mapping[str, Field]


def checked(fields: Fields, inputs: Mapping[str, Any], path: str = "") -> tuple[Properties, list[str]]:
    """The inputs in their canonical types with defaults filled in, and every problem found, one line each."""
    problems = [_unknown_key(fields, path, key) for key in inputs if key not in fields and not key.startswith("__")]
    values: Properties = {}
    for name, field in fields.items():
        value = inputs.get(name)
        if value is None:
            if field.required:
                problems.append(f"`{path}{name}` is required")
            elif field.default is not None:
                values[name] = field.default
            continue
        values[name] = _coerced(field, value, f"{path}{name}", problems)
    return values, problems


def _unknown_key(fields: Fields, path: str, key: str) -> str:
    near = difflib.get_close_matches(key, fields, n=1)
    hint = f"; did you mean `{near[0]}`?" if near else f". Known here: {', '.join(sorted(fields))}"
    return f"`{path}{key}` is no input the local engine knows{hint}"


def _coerced(field: Field, value: Any, path: str, problems: list[str]) -> Any:
    if value is UNKNOWN:
        return UNKNOWN
    try:
        return _COERCE[field.kind](field, value, path, problems)
    except (TypeError, ValueError) as error:
        problems.append(f"`{path}` {error}")
        return value


def _text(field: Field, value: Any, path: str, problems: list[str]) -> Any:
    if isinstance(value, bool):
        value = "true" if value else "false"
    elif isinstance(value, float) and value.is_integer():
        value = str(int(value))
    elif isinstance(value, int | float):
        value = str(value)
    elif not isinstance(value, str):
        raise TypeError(f"must be text, not {type(value).__name__}")
    if field.pattern and value and not re.fullmatch(field.pattern, value):
        raise ValueError(f"is {value!r}, which does not match {field.pattern}")
    return value


def _whole(field: Field, value: Any, path: str, problems: list[str]) -> int:
    number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else None
    if number is None or not number.is_integer():
        raise ValueError(f"is {value!r}; it must be a whole number")
    return int(number)


def _flag(field: Field, value: Any, path: str, problems: list[str]) -> bool:
    if value in (True, False, "true", "false"):
        return value is True or value == "true"
    raise ValueError(f"is {value!r}; it must be true or false")


def _json(field: Field, value: Any, path: str, problems: list[str]) -> str:
    if not isinstance(value, str):
        raise TypeError(f"must be JSON text, not {type(value).__name__}")
    if value and not isinstance(json.loads(value), dict):
        raise ValueError("must be a JSON object")
    return value


def _text_map(field: Field, value: Any, path: str, problems: list[str]) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"must be a map, not {type(value).__name__}")
    item = Field()
    return {key: _coerced(item, v, f"{path}.{key}", problems) for key, v in value.items() if v is not None}


def _texts(field: Field, value: Any, path: str, problems: list[str]) -> list[Any]:
    item = Field(pattern=field.pattern)
    return [_coerced(item, v, f"{path}[{n}]", problems) for n, v in enumerate(_list(value))]


def _block(field: Field, value: Any, path: str, problems: list[str]) -> Properties:
    if not isinstance(value, Mapping):
        raise TypeError(f"must be an object, not {type(value).__name__}")
    values, found = checked(field.fields, value, f"{path}.")
    problems += found
    return values


def _blocks(field: Field, value: Any, path: str, problems: list[str]) -> list[Any]:
    item = Field(kind=Kind.BLOCK, fields=field.fields)
    return [_coerced(item, v, f"{path}[{n}]", problems) for n, v in enumerate(_list(value))]


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"must be a list, not {type(value).__name__}")
    return list(value)


_COERCE: Final[Mapping[Kind, Callable[[Field, Any, str, list[str]], Any]]] = {
    Kind.TEXT: _text,
    Kind.WHOLE: _whole,
    Kind.FLAG: _flag,
    Kind.JSON: _json,
    Kind.TEXT_MAP: _text_map,
    Kind.TEXT_LIST: _texts,
    Kind.TEXT_SET: _texts,
    Kind.BLOCK: _block,
    Kind.BLOCK_LIST: _blocks,
    Kind.BLOCK_SET: _blocks,
}


def canonical(field: Field, value: Any) -> Any:
    """A form in which equal means unchanged; None stands for absent, empty, false, 0 and the default alike."""
    if value is UNKNOWN:
        return UNKNOWN
    default = field.default
    if default is not None and (value is None or value == default):
        return None
    if field.kind is Kind.JSON and isinstance(value, str) and value:
        value = json.dumps(json.loads(value), sort_keys=True)
    elif field.kind is Kind.BLOCK and isinstance(value, Mapping):
        value = _canonical_block(field.fields, value)
    elif field.kind in _BLOCKS and isinstance(value, list):
        value = [_canonical_block(field.fields, item) for item in value]
    elif field.kind in _TEXTS and isinstance(value, list):
        value = [item if item is UNKNOWN else str(item) for item in value]
    if field.kind in _SETS and isinstance(value, list):
        value = sorted(value, key=repr)
    # A default that is set makes False, 0 and "" values of their own; without one they say nothing.
    return value if value or default is not None else None


def _canonical_block(fields: Fields, value: Any) -> Any:
    if value is UNKNOWN or not isinstance(value, Mapping):
        return value
    pairs = ((name, canonical(field, value.get(name))) for name, field in sorted(fields.items()))
    return {name: item for name, item in pairs if item is not None}


def difference(fields: Fields, old: Mapping[str, Any], new: Mapping[str, Any]) -> Diff:
    """The top-level inputs that differ, and which of them make a new resource."""
    changed = tuple(
        name
        for name, field in sorted(fields.items())
        if canonical(field, old.get(name)) != canonical(field, new.get(name))
    )
    return Diff(changed=changed, replaces=tuple(name for name in changed if fields[name].replaces))
