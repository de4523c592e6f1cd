"""Handlers driven by a table of fields: which inputs a type has, and when two values are equal.

All handlers share the rules of the provider plugins: an absent value, an empty one and the default
are equal; sets have no order; JSON is compared by meaning.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from enum import Enum
from typing import Any, ClassVar, Final

from kryonix.engines.local.errors import InvalidInputs, UnsupportedResource
from kryonix.engines.local.handlers.base import UNKNOWN, Diff, Handler, Properties
from kryonix.topology.errors import nearest


class Kind(Enum):
    """The type of a value, and its name in an error."""

    TEXT = (str, "text")
    WHOLE = (int, "a whole number")
    FLAG = (bool, "true or false")
    JSON = (str, "a JSON object")
    TEXT_MAP = (dict, "a map of texts")
    TEXT_LIST = (list, "a list of texts")
    TEXT_SET = (list, "a set of texts")
    BLOCK = (dict, "an object")
    BLOCK_SET = (list, "a list of objects")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One input. A change of a field with `replaces` makes a new resource. `pattern` has to match the whole text."""

    kind: Kind = Kind.TEXT
    required: bool = False
    default: Any = None
    replaces: bool = False
    pattern: str = ""
    fields: Mapping[str, Field] = dataclass_field(default_factory=dict)


Fields = Mapping[str, Field]

REQUIRED: Final = Field(required=True)
KEY: Final = Field(required=True, replaces=True)
"""Part of a resource's identity."""


def checked(fields: Fields, inputs: Mapping[str, Any], path: str = "") -> tuple[Properties, list[str]]:
    """Return the inputs with defaults, and every problem, one line each."""
    problems = [
        f"`{path}{key}` is not an input of the local engine; {nearest(key, fields)}"
        for key in inputs
        if key not in fields and not key.startswith("__")
    ]
    values: Properties = {}
    for name, field in fields.items():
        value = field.default if inputs.get(name) is None else inputs[name]
        if value is not None:
            values[name], found = _checked(field, value, f"{path}{name}")
            problems += found
        elif field.required:
            problems.append(f"`{path}{name}` is required")
    return values, problems


def _checked(field: Field, value: Any, path: str) -> tuple[Any, list[str]]:
    if value is UNKNOWN:
        return value, []
    kind, (type_, words) = field.kind, field.kind.value
    if type_ in (int, bool) and isinstance(value, str):  # a provider's settings are texts
        with suppress(ValueError):
            value = json.loads(value)
    if not isinstance(value, type_) or (type_ is int and isinstance(value, bool)):
        return value, [f"`{path}` is {value!r}; it must be {words}"]
    if field.pattern and value and not re.fullmatch(field.pattern, value):
        return value, [f"`{path}` is {value!r}, which does not match {field.pattern}"]
    if kind is Kind.BLOCK:
        return checked(field.fields, value, f"{path}.")
    if kind is Kind.BLOCK_SET:
        each = [_checked(replace(field, kind=Kind.BLOCK), item, f"{path}[{n}]") for n, item in enumerate(value)]
        return [item for item, _ in each], [problem for _, problems in each for problem in problems]
    return value, []


def accepted(what: str, fields: Fields, inputs: Mapping[str, Any], remedy: str = "") -> Properties:
    """Return the inputs with defaults. Raise `InvalidInputs` with every problem of `what`."""
    values, problems = checked(fields, inputs)
    if problems:
        raise InvalidInputs("\n".join(f"{what}: {problem}" for problem in problems) + remedy)
    return values


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
    elif field.kind is Kind.BLOCK_SET and value:
        value = [_canonical_block(field.fields, item) for item in value]
    if field.kind in (Kind.TEXT_SET, Kind.BLOCK_SET) and value:
        value = sorted(value, key=repr)
    # With a default other than these, False, 0 and "" are values of their own.
    return value if value or field.default is not None else None


def _canonical_block(fields: Fields, value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    pairs = ((name, canonical(field, value.get(name))) for name, field in sorted(fields.items()))
    return {name: item for name, item in pairs if item is not None}


class TableHandler(Handler):
    """The half of a handler without I/O. A subclass names its type and fields and adds the rest."""

    pulumi_type: ClassVar[str]
    fields: ClassVar[Fields]
    constants: ClassVar[Properties] = {}
    """The provider plugin's defaults of inputs that the local engine does not have; the state keeps them for it."""
    replaced_in_place: ClassVar[bool] = False
    """True if old and new can never exist side by side."""

    def check(self, old: Mapping[str, Any] | None, new: Properties) -> Properties:
        return self.constants | accepted(self.pulumi_type, self.fields, new)

    def diff(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Diff:
        fields = {**{name: Field(default=value) for name, value in self.constants.items()}, **self.fields}
        changed = tuple(
            name
            for name, field in sorted(fields.items())
            if canonical(field, old_inputs.get(name)) != canonical(field, new_inputs.get(name))
        )
        replaces = tuple(name for name in changed if fields[name].replaces)
        # Two objects of one name can't coexist: the old one goes first.
        name = new_inputs.get("name")
        same_name = name is not None and name is not UNKNOWN and name == old_inputs.get("name")
        return Diff(changed, replaces, bool(replaces) and (self.replaced_in_place or same_name))


class HandlerTable:
    """A configured package: its handlers by type token."""

    def __init__(self, handlers: Iterable[TableHandler], close: Callable[[], None] = lambda: None) -> None:
        self.handlers: Mapping[str, Handler] = {handler.pulumi_type: handler for handler in handlers}
        self.close = close

    def handler(self, type_token: str) -> Handler:
        """Return the handler of a type; see `Provider.handler`."""
        if type_token not in self.handlers:
            raise UnsupportedResource(
                f"the local engine does not support the resource type {type_token!r}; "
                f"{nearest(type_token, self.handlers)}. Use the Pulumi CLI for this program, or remove the resource."
            )
        return self.handlers[type_token]
