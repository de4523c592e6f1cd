"""The shape of a payload: a keyed hash of its key names and their types."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

_DEPTH: Final = 3
_WIDTH: Final = 64
"""Keys of one object that are looked at."""
_REMEMBERED: Final = 1_000
_PLAIN: Final = {kind: kind.__name__ for kind in (str, int, float, bool, type(None))}
"""Types that need no question whether they are a mapping: it takes most of the time."""


class Shapes:
    """Payloads' shapes under one key. Without the key, nobody can check a guess of the names behind a shape."""

    def __init__(self, key: str) -> None:
        self._key = hashlib.sha256(key.encode()).digest()
        self._known: dict[Any, str] = {}

    def of(self, data: Any) -> str:
        """Return the shape of a payload: 16 hexadecimal digits, the same for the same names and types in any order."""
        structure = _structure(data, _DEPTH)
        if (shape := self._known.get(structure)) is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            text = _canonical(structure).encode(errors="surrogatepass")
            shape = self._known[structure] = hashlib.blake2b(text, key=self._key, digest_size=8).hexdigest()
        return shape


def _structure(value: Any, depth: int) -> Any:
    """Return names and types as something that can be a key: quick, in the order of the data."""
    if (plain := _PLAIN.get(type(value))) is not None:
        return plain
    if type(value) is dict or isinstance(value, Mapping):
        if not depth or len(value) > _WIDTH:
            return "object"
        return tuple([(key, _structure(each, depth - 1)) for key, each in value.items() if isinstance(key, str)])
    if isinstance(value, (list, tuple)):
        return ("[]", _structure(value[0], depth - 1)) if value and depth else "[]"
    return type(value).__name__


def _canonical(structure: Any) -> str:
    if isinstance(structure, str):
        return structure
    if structure and structure[0] == "[]":
        return f"[{_canonical(structure[1])}]"
    return "{" + ",".join(sorted(f"{key!r}:{_canonical(inner)}" for key, inner in structure)) + "}"
