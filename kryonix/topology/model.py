"""What pydantic finds wrong, said in this project's words and with the line it stands on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from kryonix.topology.document import Document, Path
from kryonix.topology.errors import MAX_PROBLEMS, Problem, nearest, shown

__all__ = ["Model", "validate"]

M = TypeVar("M", bound=BaseModel)

_KINDS = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", int: "a number", type(None): "nothing"}


class Model(BaseModel):
    """Base of all input models: immutable, no conversions, no unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


def validate(model: type[M], document: Document, at: Path = ()) -> tuple[M | None, list[Problem]]:
    """The part of a document at a path as a model, or None and every problem in it."""
    value = document.value
    for step in at:
        value = value[step]
    try:
        return model.model_validate(value), []
    except ValidationError as error:
        found = error.errors(include_url=False)[: MAX_PROBLEMS + 1]
        return None, [_problem(model, document, at, details) for details in found]


def _problem(model: type[BaseModel], document: Document, at: Path, details: ErrorDetails) -> Problem:
    where = tuple(step for step in details["loc"] if step != "[key]")
    field = ".".join(str(step)[:80] for step in where)
    explain = _EXPLANATIONS.get(details["type"])
    message = explain(model, details) if explain else f"{details['msg']}; received {_shown(details['input'])}"
    return Problem(document.file, document.line((*at, *where)), field, message)


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return f"{_KINDS[type(value)]} of {len(value)}"
    return _KINDS[type(None)] if value is None else repr(value)[:80]


def _fields(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    """The fields allowed where an unknown one was found, following the location into nested models."""
    current: Any = model
    for step in loc[:-1]:
        annotation = current.model_fields[step].annotation if isinstance(step, str) and _has(current, step) else None
        nested = [a for a in (annotation, *getattr(annotation, "__args__", ())) if _is_model(a)]
        current = nested[-1] if nested else current
    return list(current.model_fields)


def _has(model: Any, field: str) -> bool:
    return _is_model(model) and field in model.model_fields


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _missing(model: type[BaseModel], details: ErrorDetails) -> str:
    return f"the required field {details['loc'][-1]!r} is missing. Add it"


def _unknown(model: type[BaseModel], details: ErrorDetails) -> str:
    name = str(details["loc"][-1])
    return f"unknown field {shown(name)}; {nearest(name, _fields(model, details['loc']))}"


def _not_allowed(model: type[BaseModel], details: ErrorDetails) -> str:
    allowed = details["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
    return f"{_shown(details['input'])} is not allowed; {nearest(details['input'], allowed)}"


def _said(model: type[BaseModel], details: ErrorDetails) -> str:
    return str(details["ctx"]["error"])


def _wrong_type(expected: str) -> Callable[[type[BaseModel], ErrorDetails], str]:
    def explain(model: type[BaseModel], details: ErrorDetails) -> str:
        return f"{expected} is wanted, {_shown(details['input'])} was received"

    return explain


def _empty(model: type[BaseModel], details: ErrorDetails) -> str:
    return "at least one is wanted, none was received"


def _malformed(model: type[BaseModel], details: ErrorDetails) -> str:
    return f"{_shown(details['input'])} has not the form {details['ctx']['pattern']}. Write it so"


def _too_long(model: type[BaseModel], details: ErrorDetails) -> str:
    return f"{shown(str(details['input']))} is too long: {details['ctx']['max_length']} characters at most"


_EXPLANATIONS: Mapping[str, Callable[[type[BaseModel], ErrorDetails], str]] = {
    "missing": _missing,
    "extra_forbidden": _unknown,
    "literal_error": _not_allowed,
    "value_error": _said,
    "too_short": _empty,
    "string_pattern_mismatch": _malformed,
    "string_too_long": _too_long,
    "string_type": _wrong_type("text"),
    "list_type": _wrong_type("a list"),
    "tuple_type": _wrong_type("a list"),
    "dict_type": _wrong_type("a mapping"),
    "model_type": _wrong_type("a mapping"),
    "bool_type": _wrong_type("true or false"),
    "int_type": _wrong_type("a whole number"),
}
