"""Errors of running a stack, and the base of errors of tenants and of the fleet.

LifecycleError              1  base
├── EngineUnavailable       3  the chosen engine is not installed
├── EngineFailed            *  the engine ran and failed; carries its exit status
│   └── OperationDied       1  the process that ran a stack ended without a result
└── Refused                 2  the request is not valid; nothing has been changed
    └── BegunLocally        2  the CLI would create again what the local engine has made
"""

from __future__ import annotations

from kryonix.errors import Failure, KryonixError


class LifecycleError(KryonixError):
    """Base of every error of this package."""

    exit_status = 1


class EngineUnavailable(LifecycleError):
    """The chosen engine is not installed on this machine."""

    exit_status = 3


class EngineFailed(LifecycleError):
    """The engine ran and failed. `failure` is the failure as data, if known."""

    def __init__(self, message: str, exit_status: int = 1, failure: Failure | None = None) -> None:
        super().__init__(message)
        self.failure = failure
        self.exit_status = exit_status if failure is None else failure.exit_status

    @property
    def kind(self) -> str:
        """Return the kind of the failure; empty if unknown."""
        return self.failure.kind if self.failure else ""


class OperationDied(EngineFailed):
    """The process that ran a stack ended without a result: killed, or out of memory. Run again to continue."""

    def __init__(self, stack: str, ended: str) -> None:
        super().__init__(
            f"the process that ran the stack {stack!r} {ended} before it had a result. Run the same again to continue",
            1,
        )
        self.stack = stack


class Refused(LifecycleError):
    """The request is not valid; nothing has been changed."""

    exit_status = 2


class BegunLocally(Refused):
    """The Pulumi CLI does not know a stack that the local engine has made."""

    def __init__(self, stack: str) -> None:
        super().__init__(
            f"the stack {stack!r} was made by the local engine, and the Pulumi CLI does not know it: it would create "
            f"everything again. Let it take the stack over first (`kryonix export --stack {stack} --engine "
            f"local > deployment.json`, `pulumi stack init {stack}`, `pulumi stack import --file deployment.json`), or "
            "continue with `--engine local`"
        )
