"""One interface to run a stack, and the choice of what runs it."""

from __future__ import annotations

import shutil
from typing import Any, Literal, Protocol

from kryonix.engines.address import StackAddress
from kryonix.engines.errors import EngineUnavailable
from kryonix.engines.events import OnEvent, Summary
from kryonix.engines.local import LocalStack

__all__ = ["Choice", "Engine", "engine_for", "runs_cli"]

Choice = Literal["auto", "pulumi", "local"]


class Engine(Protocol):
    """Runs the program of one stack. What goes wrong is raised with a message for a person and an `exit_status`."""

    def preview(self) -> Summary:
        """What `up` would do. Changes nothing."""

    def up(self) -> Summary:
        """Make the world what the program says."""

    def refresh(self) -> Summary:
        """Read the world into the state, so that the next `up` repairs what differs."""

    def destroy(self) -> Summary:
        """Remove everything the stack has made."""

    def outputs(self, show_secrets: bool = False) -> dict[str, Any]:
        """The stack's outputs; secret ones read `[secret]` unless they are asked for."""

    def export(self) -> dict[str, Any]:
        """The deployment, as `pulumi stack import` takes it; secrets stay encrypted."""


def runs_cli(choice: Choice) -> bool:
    """Whether a choice means the Pulumi CLI: with `auto`, where it is on PATH.

    Raises EngineUnavailable where the CLI is asked for and not there.
    """
    installed = shutil.which("pulumi") is not None
    if choice == "pulumi" and not installed:
        remedy = "Install it (https://www.pulumi.com/docs/install/), or use `--engine local`"
        raise EngineUnavailable(f"the engine 'pulumi' needs the `pulumi` command, which is not on PATH. {remedy}")
    return choice != "local" and installed


def engine_for(choice: Choice, address: StackAddress, on_event: OnEvent) -> Engine:
    """The engine of a choice. Raises EngineUnavailable where the CLI is asked for and not there."""
    if not runs_cli(choice):
        return LocalStack(address.project, address.stack, config_file=address.config_file, on_event=on_event)
    from kryonix.engines.pulumi_cli import AutomationEngine  # imports the whole SDK, 0.4 s that others need not pay

    return AutomationEngine(address, on_event)
