"""The root of every error that ends a command with a message instead of a traceback."""

from __future__ import annotations

__all__ = ["InvalidChoice", "KryonixError", "MissingPrerequisite", "ServiceUnreachable"]


class KryonixError(Exception):
    """Base of every error with a message for a person; `exit_status` is the command's."""

    exit_status = 1


class InvalidChoice(KryonixError):
    """An argument or an input that is not valid. Nothing has been changed."""

    exit_status = 2


class ServiceUnreachable(KryonixError):
    """A service does not answer, or refuses the credentials."""

    exit_status = 3


class MissingPrerequisite(ServiceUnreachable):
    """Something a resource needs is missing, such as a free port; nothing was created."""
