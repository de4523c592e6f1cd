"""Errors of the fleet: requests that are not valid. Nothing has been changed."""

from __future__ import annotations

from collections.abc import Sequence

from kryonix.engines.errors import Refused


class InvalidRollout(Refused):
    """The rollout's arguments are not valid, or there is no rollout to resume."""


class NoRoom(Refused):
    """No cell has room for a tenant. `cells` says why, one text per cell."""

    def __init__(self, message: str, cells: Sequence[str]) -> None:
        super().__init__(message)
        self.cells = tuple(cells)
