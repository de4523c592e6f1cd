"""Compare the old and new inputs of a dynamic resource."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["changed_keys"]


def changed_keys(olds: Mapping[str, Any], news: Mapping[str, Any]) -> list[str]:
    """Return the names of inputs with different values, except the SDK's `__provider`."""
    return [key for key in news if key != "__provider" and olds.get(key) != news[key]]
