"""One interface to run the stacks of many tenants, several at once, and the choice of what runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from kryonix.engines.engine import Choice, runs_cli
from kryonix.engines.events import OnEvent, Summary
from kryonix.engines.spec import StackSpec, ignore

__all__ = ["Deployer", "deployer_for"]


class Deployer(Protocol):
    """Runs the project's program for stacks. Thread-safe: operations beyond the concurrency wait for their turn.

    Each operation has a workspace of its own, with links to the program and a config file made of the StackSpec; state
    is that of the project. Errors have a message for a person and an `exit_status`: 2 input, 3 a service, else 1.
    """

    def preview(self, stack: StackSpec, on_event: OnEvent = ignore) -> Summary:
        """What `up` would do. Changes nothing."""

    def up(self, stack: StackSpec, on_event: OnEvent = ignore) -> Summary:
        """Make the world what the program says."""

    def refresh(self, stack: StackSpec, on_event: OnEvent = ignore) -> Summary:
        """Read the world into the state: the steps that are no `same` are what has drifted."""

    def destroy(self, stack: StackSpec, on_event: OnEvent = ignore) -> Summary:
        """Remove everything that the stack has made. A stack that has nothing is no error."""

    def outputs(self, stack: StackSpec) -> dict[str, Any]:
        """The stack's outputs, secret ones in the clear: the caller's to keep. Empty where nothing is deployed."""

    def export(self, stack: StackSpec) -> dict[str, Any]:
        """The deployment, secrets encrypted; without resources where nothing is deployed."""

    def stacks(self) -> list[str]:
        """Names of the stacks that have state, sorted."""


def deployer_for(choice: Choice, project: Path, *, concurrency: int = 4) -> Deployer:
    """The deployer of a choice: with `auto`, by the Pulumi CLI where it is on PATH.

    Raises EngineUnavailable where the CLI is asked for and not there.
    """
    if not runs_cli(choice):
        from kryonix.engines.process import LocalDeployer

        return LocalDeployer(project, concurrency=concurrency)
    from kryonix.engines.automation_deployer import AutomationDeployer  # imports the whole SDK

    return AutomationDeployer(project, concurrency=concurrency)
