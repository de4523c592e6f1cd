"""The errors of the local engine and their exit statuses.

LocalError                  1  base
├── ApplyFailed             1  a change could not be made
│   ├── Protected           1  a protected resource was to be deleted
│   └── Refusal             2  a resource of the project refused a change; the message says why
├── ProgramFailed           1  the program raised; has the program's own exit status if it set one
├── InvalidInputs           2  a resource's inputs can never be applied
├── InvalidProgramInput     2  the program, project or config can't be accepted
│   └── ConfigError         2  all problems of a stack's config
├── UnsupportedFeature      2  an unsupported feature of Pulumi
├── UnsupportedResource     2  a resource type without a handler
├── ServiceUnavailable      3  a service can't be reached or refuses the credentials
│   └── PrerequisiteMissing 3  an image or a port is missing, and nothing was made
├── PassphraseError         3  no passphrase, or the wrong one
├── StateLocked             3  another run holds the stack
└── StateCorrupt            3  the state can't be read
"""

from __future__ import annotations

from kryonix.errors import Failure, KryonixError, MissingPrerequisite, split


class LocalError(KryonixError):
    """Base of every error of the local engine. The data in the text of a program's error becomes `failure`."""

    exit_status: int = 1

    def __init__(self, message: str = "") -> None:
        text, failure = split(message)
        super().__init__(text)
        if failure is not None:
            self.failure = failure
            self.exit_status = failure.exit_status


class ApplyFailed(LocalError):
    """A change could not be made."""


class Protected(ApplyFailed):
    """A protected resource was to be deleted."""

    failure = Failure(kind="protected")


class Refusal(ApplyFailed):
    """A resource of the project refused a change; its message stands alone."""

    exit_status = 2


class ProgramFailed(LocalError):
    """The program raised. `details` is a traceback if the exception was a bug of the program, else empty."""

    def __init__(self, message: str, *, details: str = "", exit_status: int = 1) -> None:
        self.exit_status = exit_status
        super().__init__(message)
        self.details = details


class InvalidInputs(LocalError):
    """A resource's inputs can never be applied."""

    exit_status = 2


class InvalidProgramInput(LocalError):
    """The program, the project file or the config can't be accepted."""

    exit_status = 2


class ConfigError(InvalidProgramInput):
    """All problems of a project's or a stack's file."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class UnsupportedFeature(LocalError):
    """The program uses an unsupported feature of Pulumi."""

    exit_status = 2

    @classmethod
    def of(cls, feature: str, user: str = "The program") -> UnsupportedFeature:
        """Return the error for a feature of Pulumi in use by `user`."""
        return cls(
            f"{user} uses {feature}, which the local engine does not support: "
            "remove it, or run the program with the Pulumi CLI."
        )


class UnsupportedResource(LocalError):
    """No handler manages this resource type."""

    exit_status = 2


class ServiceUnavailable(LocalError):
    """A service can't be reached, or refuses the credentials."""

    exit_status = 3


class PrerequisiteMissing(ServiceUnavailable, MissingPrerequisite):
    """A prerequisite, such as an image or a port, is missing; nothing was made."""


class PassphraseError(LocalError):
    """No passphrase is set, or the stack's secrets were encrypted with another."""

    exit_status = 3


class StateLocked(LocalError):
    """Another run holds the stack."""

    exit_status = 3


class StateCorrupt(LocalError):
    """The stack's state or its journal can't be read."""

    exit_status = 3
