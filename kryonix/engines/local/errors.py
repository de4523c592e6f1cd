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
    pass


class Protected(ApplyFailed):
    failure = Failure(kind="protected")


class Refusal(ApplyFailed):
    exit_status = 2


class ProgramFailed(LocalError):
    def __init__(self, message: str, *, exit_status: int = 1) -> None:
        self.exit_status = exit_status
        super().__init__(message)


class InvalidInputs(LocalError):
    exit_status = 2


class InvalidProgramInput(LocalError):
    exit_status = 2


class ConfigError(InvalidProgramInput):
    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))


class UnsupportedFeature(LocalError):
    exit_status = 2

    @classmethod
    def of(cls, feature: str, user: str = "The program") -> UnsupportedFeature:
        """Return the error for a feature of Pulumi in use by `user`."""
        return cls(
            f"{user} uses {feature}, which the local engine does not support: "
            "remove it, or run the program with the Pulumi CLI."
        )


class UnsupportedResource(LocalError):
    exit_status = 2


class ServiceUnavailable(LocalError):
    exit_status = 3


class PrerequisiteMissing(ServiceUnavailable, MissingPrerequisite):
    pass


class PassphraseError(LocalError):
    exit_status = 3


class StateLocked(LocalError):
    exit_status = 3


class StateCorrupt(LocalError):
    exit_status = 3
