"""Nested values, as in JSON: change or find parts at any depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

_LISTS: Final = (list, tuple)  # a union would be built again for each part


def changed(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return the value with each part changed, from the outside in; a part that `change` replaces is final."""
    new = change(value)
    if new is not value:
        return new
    if isinstance(value, dict):
        return {key: changed(item, change) for key, item in value.items()}
    return [changed(item, change) for item in value] if isinstance(value, _LISTS) else value


def contains(value: Any, wanted: Callable[[Any], bool]) -> bool:
    """Return True if the value or any part of it is wanted."""
    if wanted(value):
        return True
    if isinstance(value, dict):
        return any(contains(item, wanted) for item in value.values())
    return isinstance(value, _LISTS) and any(contains(item, wanted) for item in value)
