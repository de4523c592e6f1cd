"""Handlers driven by a table of fields: how each input is checked, and when two values are equal.

All handlers share the rules of the provider plugins: an absent value, an empty one and the default
are equal; sets have no order; JSON is compared by meaning.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from enum import Enum, auto
from typing import Any, ClassVar, Final

from kryonix.engines.local.errors import InvalidInputs, UnsupportedResource
from kryonix.engines.local.handlers.base import UNKNOWN, Diff, Handler, Properties
from kryonix.topology.errors import nearest


class Kind(Enum):
    """The shape of a value."""

    TEXT = auto()
    WHOLE = auto()
    FLAG = auto()
    JSON = auto()
    TEXT_MAP = auto()
    TEXT_LIST = auto()
    TEXT_SET = auto()
    BLOCK = auto()
    BLOCK_SET = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One input.

    A change of a field with `replaces` makes a new resource. `pattern` has to match the whole text. A `fixed` field
    takes its default only: the provider plugin has the input, so state keeps it, but the engine offers no other value.
    """

    kind: Kind = Kind.TEXT
    required: bool = False
    default: Any = None
    replaces: bool = False
    fixed: bool = False
    pattern: str = ""
    fields: Mapping[str, Field] = dataclass_field(default_factory=dict)


Fields = Mapping[str, Field]


def checked(fields: Fields, inputs: Mapping[str, Any], path: str = "") -> tuple[Properties, list[str]]:
    """Return the inputs in canonical types with defaults, and every problem, one line each."""
    problems = [
        f"`{path}{key}` is not an input of the local engine; {nearest(key, fields)}"
        for key in inputs
        if key not in fields and not key.startswith("__")
    ]
    values: Properties = {}
    for name, field in fields.items():
        value = inputs.get(name)
        if value is not None:
            values[name] = value = _coerced(field, value, f"{path}{name}", problems)
            if field.fixed and value != field.default:
                problems.append(f"`{path}{name}` is {value!r}; the local engine supports {field.default!r} only")
        elif field.required:
            problems.append(f"`{path}{name}` is required")
        elif field.default is not None:
            values[name] = field.default
    return values, problems


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
    elif isinstance(value, int | float):
        value = str(int(value) if float(value).is_integer() else value)
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
    return {key: _coerced(Field(), v, f"{path}.{key}", problems) for key, v in value.items() if v is not None}


def _items(field: Field, value: Any, path: str, problems: list[str]) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"must be a list, not {type(value).__name__}")
    item = replace(field, kind=Kind.BLOCK if field.kind is Kind.BLOCK_SET else Kind.TEXT)
    return [_coerced(item, v, f"{path}[{n}]", problems) for n, v in enumerate(value)]


def _block(field: Field, value: Any, path: str, problems: list[str]) -> Properties:
    if not isinstance(value, Mapping):
        raise TypeError(f"must be an object, not {type(value).__name__}")
    values, found = checked(field.fields, value, f"{path}.")
    problems += found
    return values


_COERCE: Final[Mapping[Kind, Callable[[Field, Any, str, list[str]], Any]]] = {
    Kind.TEXT: _text,
    Kind.WHOLE: _whole,
    Kind.FLAG: _flag,
    Kind.JSON: _json,
    Kind.TEXT_MAP: _text_map,
    Kind.TEXT_LIST: _items,
    Kind.TEXT_SET: _items,
    Kind.BLOCK: _block,
    Kind.BLOCK_SET: _items,
}


def canonical(field: Field, value: Any) -> Any:
    """Return a comparable form; None is absent, empty, false, 0 and the default alike."""
    if value is UNKNOWN:
        return UNKNOWN
    if field.default is not None and (value is None or value == field.default):
        return None
    if field.kind is Kind.JSON and value:
        value = json.dumps(json.loads(value), sort_keys=True)
    elif field.kind is Kind.BLOCK:
        value = _canonical_block(field.fields, value)
    elif isinstance(value, list):
        if field.kind is Kind.BLOCK_SET:
            value = [_canonical_block(field.fields, item) for item in value]
        else:
            value = [item if item is UNKNOWN else str(item) for item in value]
        value = value if field.kind is Kind.TEXT_LIST else sorted(value, key=repr)
    # With a default other than these, False, 0 and "" are values of their own.
    return value if value or field.default is not None else None


def _canonical_block(fields: Fields, value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    pairs = ((name, canonical(field, value.get(name))) for name, field in sorted(fields.items()))
    return {name: item for name, item in pairs if item is not None}


def difference(fields: Fields, old: Mapping[str, Any], new: Mapping[str, Any]) -> Diff:
    """Return the different top-level inputs, and those that replace."""
    changed = tuple(
        name
        for name, field in sorted(fields.items())
        if canonical(field, old.get(name)) != canonical(field, new.get(name))
    )
    return Diff(changed=changed, replaces=tuple(name for name in changed if fields[name].replaces))


class TableHandler(ABC):
    """The half of a handler without I/O. A subclass names its type and fields and adds the rest; see `Handler`."""

    pulumi_type: ClassVar[str]
    fields: ClassVar[Fields]
    secret_outputs: frozenset[str] = frozenset()
    replaced_in_place: ClassVar[bool] = False
    """True if old and new can never exist side by side."""

    def check(self, old: Mapping[str, Any] | None, new: Properties) -> Properties:
        values, problems = checked(self.fields, new)
        if problems:
            raise InvalidInputs("\n".join(f"{self.pulumi_type}: {problem}" for problem in problems))
        return values

    def diff(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Diff:
        diff = difference(self.fields, old_inputs, new_inputs)
        if not diff.replaces:
            return diff
        # Two objects of one name can't coexist: the old one goes first.
        name = new_inputs.get("name")
        same_name = name is not None and name is not UNKNOWN and name == old_inputs.get("name")
        return replace(diff, delete_before_replace=self.replaced_in_place or same_name)

    @abstractmethod
    def create(self, inputs: Properties) -> tuple[str, Properties]: ...

    def recreate(self, inputs: Properties) -> tuple[str, Properties]:
        return self.create(inputs)

    def update(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Properties:
        return self.create(new_inputs)[1]

    def prepare(self, old_inputs: Properties, new_inputs: Properties) -> None:
        return


@dataclass(frozen=True, slots=True)
class HandlerTable:
    """A configured package: its handlers by type token."""

    handlers: Mapping[str, Handler]
    on_close: Callable[[], None]

    @staticmethod
    def of(handlers: Iterable[Any], on_close: Callable[[], None] = lambda: None) -> HandlerTable:
        """Build the table; each handler names its type as `pulumi_type`."""
        return HandlerTable({handler.pulumi_type: handler for handler in handlers}, on_close)

    def handler(self, type_token: str) -> Handler:
        """Return the handler of a type; see `Provider.handler`."""
        if type_token not in self.handlers:
            raise UnsupportedResource(
                f"the local engine does not support the resource type {type_token!r}; "
                f"{nearest(type_token, self.handlers)}. Use the Pulumi CLI for this program, or remove the resource."
            )
        return self.handlers[type_token]

    def close(self) -> None:
        """Release connections."""
        self.on_close()
