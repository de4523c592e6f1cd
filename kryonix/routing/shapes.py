"""The shape of a payload: a keyed hash of its key names and their types."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any, Final

_DEPTH: Final = 3
_WIDTH: Final = 64
"""Keys of one object that are looked at."""
_NAMES: Final = 256
"""Keys of a payload that are looked at. With more, its lowest level is not."""
_REMEMBERED: Final = 1_000
_LONGEST: Final = 10_000
"""Characters of a structure that is remembered."""
_PLAIN: Final = {str: "string", int: "number", float: "number", bool: "boolean", type(None): "null"}
"""JSON's names of the types that need no question whether they are a mapping: it takes most of the time.

Whole numbers are no type of their own: some languages can't tell 1 from 1.0.
"""


class Shapes:
    """Payloads' shapes under one key; docs/routing.md has their form for other languages.

    Without the key, nobody can check a guess of the names behind a shape.
    """

    def __init__(self, key: str) -> None:
        self._key = hashlib.sha256(key.encode()).digest()
        self._known: dict[Any, str] = {}
        self._flat: dict[Any, str] = {}

    def of(self, data: Any) -> str:
        """Return the shape of a payload: 16 hexadecimal digits, the same for the same names and types in any order."""
        # A quicker key than its structure, but right only for a small object without others in it.
        flat = (*data, *map(type, data.values())) if type(data) is dict and len(data) <= _WIDTH else None
        if (shape := self._flat.get(flat)) is None:
            structure = _bounded(data)
            shape = self._of(structure)
            if flat is not None and structure in self._known and _is_flat(data):
                self._flat[flat] = shape
        return shape

    def _of(self, structure: Any) -> str:
        if (shape := self._known.get(structure)) is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
                self._flat.clear()
            text = _canonical(structure).encode()
            shape = hmac.digest(self._key, text, "sha256")[:8].hex()
            if len(text) <= _LONGEST:
                self._known[structure] = shape
        return shape


def _is_flat(data: dict[Any, Any]) -> bool:
    return {*map(type, data)} <= {str} and _PLAIN.keys() >= {*map(type, data.values())}


class _TooMany(Exception):
    """There are more names than are looked at."""


def _bounded(data: Any) -> Any:
    """Return the structure down to a level above which there are few names, in whatever order they are."""
    for depth in range(_DEPTH, 1, -1):
        try:
            return _structure(data, depth, [_NAMES])
        except _TooMany:
            continue
    return _structure(data, 1, [_NAMES])


def _structure(value: Any, depth: int, left: list[int]) -> Any:
    """Return names and types as something that can be a key: quick, in the order of the data. `left` are names."""
    if (plain := _PLAIN.get(type(value))) is not None:
        return plain
    if type(value) is dict or isinstance(value, Mapping):
        if not depth or len(value) > _WIDTH:
            return "object"
        left[0] -= len(value)
        if left[0] < 0:
            raise _TooMany
        return tuple([(key, _structure(each, depth - 1, left)) for key, each in value.items() if isinstance(key, str)])
    if isinstance(value, (list, tuple)):
        return ("[]", _structure(value[0], depth - 1, left)) if value and depth else "[]"
    return type(value).__name__


def _canonical(structure: Any) -> str:
    """Return a structure as ASCII, so that the members' order is the same in every language."""
    if isinstance(structure, str):
        return structure
    if structure and structure[0] == "[]":
        return f"[{_canonical(structure[1])}]"
    members = [f"{json.dumps(key)}:{_canonical(inner)}" for key, inner in structure]
    return "{" + ",".join(sorted(members)) + "}"
