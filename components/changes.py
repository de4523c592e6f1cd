"""What differs between a dynamic resource's inputs as they were and as they are to be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["changed_keys"]


def changed_keys(olds: Mapping[str, Any], news: Mapping[str, Any]) -> list[str]:
    """The names of inputs whose values differ. The provider itself, which the SDK keeps among them, is none."""
    return [key for key in news if key != "__provider" and olds.get(key) != news[key]]
