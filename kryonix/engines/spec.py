"""Which stack a deployer runs, with what config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kryonix.engines.events import Event

__all__ = ["StackSpec", "ignore"]


def ignore(event: Event) -> None:
    """Listen to no event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSpec:
    """A stack and its whole config. Keys are full, such as `kryonix:tenant`; values are plain, and none is a secret."""

    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
