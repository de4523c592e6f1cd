"""Validate input with pydantic, and report its errors in this project's words with their lines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from kryonix.topology.document import Document, Path
from kryonix.topology.errors import MAX_PROBLEMS, InvalidInput, Problem, nearest, shown

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
        found = error.errors(include_url=False)[: MAX_PROBLEMS + 1]
        return None, [_problem(model, document, at, details) for details in found]


def _problem(model: type[BaseModel], document: Document, at: Path, details: ErrorDetails) -> Problem:
    where = tuple(step for step in details["loc"] if step != "[key]")
    field = ".".join(str(step)[:80] for step in where)
    return Problem(document.file, document.line((*at, *where)), field, _message(model, details))


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
