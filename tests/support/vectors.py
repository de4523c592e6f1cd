"""The shared vectors of vectors/README.md: reading them, their tagged values, and what counts as equal."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from tests.support.project import ROOT

__all__ = ["GIVEN", "VECTORS", "Vector", "check", "mutations", "read_vectors", "same", "value"]

VECTORS: Final = ROOT / "vectors"
GIVEN: Final = VECTORS / "given"
"""Files that vectors name."""

_PARTS: Final = frozenset({"headers", "error", "route", "moved", "drifts"})
"""Members of an expectation that are compared by the names listed in them only."""
_NEAR: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Vector:
    """One case: what is given, and what every SDK answers."""

    file: str
    name: str
    why: str
    given: dict[str, Any]
    expect: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"


def read_vectors() -> list[Vector]:
    """Return all vectors. Raises TypeError for one with other fields."""
    files = sorted(VECTORS.glob("*.json"))
    return [Vector(file.stem, **each) for file in files for each in json.loads(file.read_text(encoding="utf-8"))]


def value(given: Any) -> Any:
    """Return what JSON with tags stands for. Raises KeyError for an unknown tag."""
    if isinstance(given, list):
        return [value(each) for each in given]
    if not isinstance(given, dict):
        return given
    if len(given) != 1 or not next(iter(given)).startswith("$"):
        return {name: value(each) for name, each in given.items()}
    ((tag, inner),) = given.items()
    match tag:
        case "$bytes":
            return base64.b64decode(inner, validate=True)
        case "$time":
            return datetime.fromisoformat(inner)
        case "$integer":
            return int(inner)
        case "$float":
            return float(inner)
        case "$repeat":
            return inner[0] * inner[1]
        case "$join":
            return "".join(map(value, inner))
        case "$file":
            return (GIVEN / inner).read_bytes()
    raise KeyError(tag)


def same(one: Any, other: Any) -> bool:
    """Return True for decoded equality: numbers as doubles, objects in any order of their names."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return _double(one) == _double(other) or (one != one and other != other)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(each, other[name]) for name, each in one.items())
    if isinstance(one, (bytes, bytearray)):
        return isinstance(other, (bytes, bytearray)) and one == other
    return type(one) is type(other) and bool(one == other)


def _double(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.copysign(math.inf, number)


def check(expect: dict[str, Any], answer: dict[str, Any], path: str = "") -> None:
    """Raise AssertionError unless an answer has all that is expected. What is not listed is not compared."""
    for name, expected in expect.items():
        where = f"{path}{name}"
        if expected == {"$absent": True}:
            assert name not in answer, f"{where} is {answer[name]!r:.200}, and should be absent"
            continue
        assert name in answer, f"{where} is missing from {answer!r:.200}"
        actual = answer[name]
        if name in _PARTS and isinstance(expected, dict) and isinstance(actual, dict):
            check(expected, actual, f"{where}.")
        else:
            assert _matches(expected, actual), f"{where}: {actual!r:.200} is not {expected!r:.200}"


def _matches(expected: Any, actual: Any) -> bool:
    if isinstance(expected, dict) and expected.keys() == {"$words"}:
        return isinstance(actual, str) and all(word in actual for word in expected["$words"])
    if isinstance(expected, dict) and expected.keys() == {"$without"}:
        return isinstance(actual, str) and not any(word in actual for word in expected["$without"])
    if isinstance(expected, dict) and expected.keys() == {"$near"}:
        return isinstance(actual, float) and math.isclose(actual, expected["$near"], rel_tol=_NEAR, abs_tol=_NEAR)
    return same(value(expected), actual)


def mutations(expect: Any) -> Iterator[Any]:
    """Yield copies of an expectation, each with one of its values changed, one added or one word more."""
    if isinstance(expect, dict):
        tag = next(iter(expect), "")
        if len(expect) == 1 and tag.startswith("$"):
            yield _other_tagged(tag, expect[tag])
            return
        yield {**expect, "~": "~"}
        for name, each in expect.items():
            for changed in mutations(each):
                yield {**deepcopy(expect), name: changed}
    elif isinstance(expect, list):
        yield [*expect, "~"]
        for number, each in enumerate(expect):
            for changed in mutations(each):
                yield [*expect[:number], changed, *expect[number + 1 :]]
    elif isinstance(expect, bool):
        yield not expect
    elif isinstance(expect, (int, float)):
        yield expect + 1 if abs(expect) < 2**52 else 2 * expect
    else:
        yield f"{expect or ''}~"


def _other_tagged(tag: str, inner: Any) -> Any:
    match tag:
        case "$bytes":
            return {tag: base64.b64encode(base64.b64decode(inner) + b"~").decode()}
        case "$time":
            return {tag: (datetime.fromisoformat(inner) + timedelta(seconds=1)).isoformat()}
        case "$integer":
            return {tag: str(2 * int(inner) + 1)}
        case "$float":
            return {tag: "0.125"}
        case "$words":
            return {tag: [*inner[:-1], f"{inner[-1]}~"]}
        case "$without":
            return {tag: [*inner, ""]}
        case "$near":
            return {tag: inner + 1e-6 * max(1.0, abs(inner))}
        case "$absent":
            return "~"
    return {"$join": [{tag: inner}, "~"]}
