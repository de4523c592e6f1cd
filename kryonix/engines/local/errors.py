"""What can go wrong in the local engine, and the exit status each failure ends with.

LocalError                1  base
├── ApplyFailed           1  a change could not be made
│   └── Refusal           2  a resource's own answer that it will not change; its message stands by itself
├── ProgramFailed         1  the program raised; carries the program's own exit status where it has one
├── InvalidInputs         2  a resource's inputs can never be applied
├── InvalidProgramInput   2  the program, project or config can't be accepted
│   └── ConfigError       2  every problem of a stack's config
├── UnsupportedFeature    2  something of Pulumi's that this engine does not implement
├── UnsupportedResource   2  a resource type that no handler knows
├── ServiceUnavailable    3  a service that can't be reached or refuses the credentials
│   └── PrerequisiteMissing 3  something a resource needs is not to be had, and nothing was made
├── PassphraseError       3  no passphrase, or the wrong one
├── StateLocked           3  another run holds the stack
└── StateCorrupt          3  the state can't be read
"""

from __future__ import annotations

from kryonix.errors import KryonixError, MissingPrerequisite

__all__ = [
    "ApplyFailed",
    "ConfigError",
    "InvalidInputs",
    "InvalidProgramInput",
    "LocalError",
    "PassphraseError",
    "PrerequisiteMissing",
    "ProgramFailed",
    "Refusal",
    "ServiceUnavailable",
    "StateCorrupt",
    "StateLocked",
    "UnsupportedFeature",
    "UnsupportedResource",
]


class LocalError(KryonixError):
    """Base of every error of the local engine. `str()` is a message for a person: what, received, rule, remedy."""

    exit_status: int = 1


class ApplyFailed(LocalError):
    """A change could not be made in the real world."""


class Refusal(ApplyFailed):
    """The project's own code refused a change of one of its resources: its message says all, to a person."""

    exit_status = 2


class ProgramFailed(LocalError):
    """The program raised. `details` is a traceback where the exception was a bug of the program, else empty."""

    def __init__(self, message: str, *, details: str = "", exit_status: int = 1) -> None:
        super().__init__(message)
        self.details = details
        self.exit_status = exit_status


class InvalidInputs(LocalError):
    """A resource's inputs can never be applied, whatever the world looks like."""

    exit_status = 2


class InvalidProgramInput(LocalError):
    """The program, the project file or the config can't be accepted."""

    exit_status = 2


class ConfigError(InvalidProgramInput):
    """Every problem found in a stack's config, all at once."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class UnsupportedFeature(LocalError):
    """The program asks for something of Pulumi's that this engine does not implement, and will not ignore."""

    exit_status = 2


class UnsupportedResource(LocalError):
    """No handler knows this resource type."""

    exit_status = 2


class ServiceUnavailable(LocalError):
    """A service can't be reached, or refuses the credentials it was given."""

    exit_status = 3


class PrerequisiteMissing(ServiceUnavailable, MissingPrerequisite):
    """What a resource needs in order to be made is not to be had, and nothing was made: an image, a port."""


class PassphraseError(LocalError):
    """There is no passphrase, or it is not the one the stack's secrets were encrypted with."""

    exit_status = 3


class StateLocked(LocalError):
    """Another run holds the stack."""

    exit_status = 3


class StateCorrupt(LocalError):
    """The stack's state, or its journal, can't be read."""

    exit_status = 3
