"""Property paths of `ignore_changes`, such as `limits.memory` or `ports[0].internal`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from kryonix.engines.local.errors import InvalidProgramInput
from kryonix.engines.local.handlers.base import Properties

__all__ = ["keep_old"]

PART = re.compile(r"\.?([^.\[\]\"]+)|\[(\d+)\]|\[\"([^\"]*)\"\]")
MISSING = object()


def keep_old(new: Properties, old: Mapping[str, Any], paths: Iterable[str]) -> Properties:
    """The new inputs with the old value at each path, `*` for all; what the old ones lack is taken away."""
    for path in paths:
        if path == "*":
            return dict(old)
        parts = _parse(path)
        value = _get(old, parts)
        new = _set(new, parts, value)
    return new


def _parse(path: str) -> list[str | int]:
    parts: list[str | int] = []
    position = 0
    while position < len(path):
        match = PART.match(path, position)
        if match is None:
            raise InvalidProgramInput(f"ignore_changes: {path!r} is not a property path, such as `a.b` or `a[0]`.")
        name, index, quoted = match.groups()
        parts.append(int(index) if index is not None else quoted if quoted is not None else name)
        position = match.end()
    return parts


def _get(value: Any, parts: list[str | int]) -> Any:
    for part in parts:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return MISSING
    return value


def _set(target: Any, parts: list[str | int], value: Any) -> Any:
    head, rest = parts[0], parts[1:]
    if isinstance(target, dict) and isinstance(head, str):
        changed = _set(target.get(head, {}), rest, value) if rest else value
        kept = {name: item for name, item in target.items() if name != head}
        return (
            kept if changed is MISSING or (rest and head not in target and value is MISSING) else kept | {head: changed}
        )
    if isinstance(target, list) and isinstance(head, int) and head < len(target):
        changed = _set(target[head], rest, value) if rest else value
        return target if changed is MISSING else [*target[:head], changed, *target[head + 1 :]]
    return target
