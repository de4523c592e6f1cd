"""What can go wrong in a command before anything is run."""

from __future__ import annotations

__all__ = ["InvalidChoice", "OperationError", "ServiceUnreachable"]


class OperationError(Exception):
    """Base of every error of this package."""

    exit_status = 1


class InvalidChoice(OperationError):
    """An input that can't be accepted; nothing has been touched."""

    exit_status = 2


class ServiceUnreachable(OperationError):
    """A service that can't be reached, or refuses the credentials."""

    exit_status = 3
