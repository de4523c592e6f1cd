"""What can go wrong when a stack is run."""

from __future__ import annotations

__all__ = ["EngineFailed", "EngineUnavailable", "LifecycleError"]


class LifecycleError(Exception):
    """Base of every error of this package."""

    exit_status = 1


class EngineUnavailable(LifecycleError):
    """The engine that was asked for is not on this machine."""

    exit_status = 3


class EngineFailed(LifecycleError):
    """The engine ran and ended with errors."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status
