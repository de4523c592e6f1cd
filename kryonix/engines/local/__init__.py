"""Run the project's Pulumi program without the Pulumi CLI, with a state that the CLI can take over."""

from kryonix.engines.events import Diagnostic, Event, ResourceEvent, Step, Summary
from kryonix.engines.local.errors import (
    ApplyFailed,
    ConfigError,
    InvalidInputs,
    InvalidProgramInput,
    LocalError,
    PassphraseError,
    ProgramFailed,
    ServiceUnavailable,
    StateCorrupt,
    StateLocked,
    UnsupportedFeature,
    UnsupportedResource,
)
from kryonix.engines.local.stack import LocalStack

__all__ = [
    "ApplyFailed",
    "ConfigError",
    "Diagnostic",
    "Event",
    "InvalidInputs",
    "InvalidProgramInput",
    "LocalError",
    "LocalStack",
    "PassphraseError",
    "ProgramFailed",
    "ResourceEvent",
    "ServiceUnavailable",
    "StateCorrupt",
    "StateLocked",
    "Step",
    "Summary",
    "UnsupportedFeature",
    "UnsupportedResource",
]
