"""The `kryonix` command.

Exit statuses are in docs/commands.md.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from kryonix import __version__
from kryonix.cli.groups import Group
from kryonix.cli.output.console import err, print_error, print_json
from kryonix.cluster.nodes import ROLL_VARIABLE
from kryonix.errors import KryonixError

COMMANDS: Final = {
    "Platform": {
        "plan": ("plan", "Show what each tenant gets, without connecting to anything."),
        "preview": ("stack", "Show what `up` would change."),
        "up": ("stack", "Create or update the stack's resources."),
        "refresh": ("stack", "Update the state from the live systems."),
        "destroy": ("stack", "Remove everything in the stack."),
        "outputs": ("stack", "Print the stack's outputs."),
        "export": ("stack", "Print the stack's deployment for `pulumi stack import`."),
        "check": ("check", "Check the platform and its tenants as they are: what fails, why, and what to do."),
        "status": ("status", "Show the tenants as the broker and the registry report them."),
        "cluster": ("cluster", "The nodes of the broker: their state, replacing them one by one, adding nodes."),
        "top": ("top", "Show all tenants live: depth, rates, wait, consumers and the fullest limit."),
        "exporter": (
            "exporter",
            "Serve Prometheus metrics of tenants: limits, use, operations, backups, routing, drift and certificates.",
        ),
        "certificates": (
            "certificates",
            "Certificates of services: what is served, renewal, and the CA.",
        ),
        "schema": ("plan", "Print the JSON Schema of tenants.yaml, for editors."),
    },
    "Tenants": {
        "tenant": ("tenant", "Create, change, suspend and remove tenants with their own stack."),
        "fleet": ("fleet", "Status, drift, rollout and placement of all tenants with their own stack."),
        "backup": ("backup", "Encrypted bundles of the platform and its tenants, proven to restore."),
        "signup": ("signup", "Self-service sign-up: HTTP service, worker and API keys."),
    },
    "Messages": {
        "send": ("messages", "Send a message and wait until the broker has stored it."),
        "consume": ("messages", "Take an action's messages for good, and print each as a line of JSON."),
        "stats": ("messages", "Show a tenant's queues: depth, consumers and rates."),
        "dead-letters": ("dead_letters", "List, show, redrive, discard and export dead letters."),
        "redrive": ("messages", "Return dead letters to their original exchange and routing key."),
        "unrouted": ("messages", "Show messages that reached no queue, as the platform's administrator."),
        "router": ("router", "Routing that learns: outcomes, training, evaluation, modes and decisions."),
        "worker": ("worker", "Run handlers, with consumers scaled by queue depth within the plan."),
    },
}
"""Commands by topic: the module, imported when the command runs, and its help for the list of commands."""


def load_command(name: str) -> Any:
    """Import and return a command or a group."""
    module = next(commands[name][0] for commands in COMMANDS.values() if name in commands)
    loaded = typer.main.get_command(import_module(f"kryonix.cli.{module}").app)
    return loaded.commands[name] if isinstance(loaded, TyperGroup) and loaded.name != name else loaded


class LazyGroup(Group):
    """List commands without importing them."""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        for topic, commands in COMMANDS.items():
            for name, (_, text) in commands.items():
                self.add_command(TyperCommand(name, help=text, rich_help_panel=topic))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, listed, rest = super().resolve_command(ctx, args)
        return name, listed and load_command(str(listed.name)), rest

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:  # typer adds the words of its validator
            error.message = error.message.removeprefix("Value error, ")
            raise
        except KeyboardInterrupt:  # typer would exit without a word
            err.print("interrupted; run the same command again to continue")
            raise typer.Exit(130) from None


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, pretty_exceptions_enable=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"kryonix {__version__}\n")
        raise typer.Exit


@app.callback()
def kryonix(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Isolated RabbitMQ infrastructure for every Kryonix customer."""
    # Left in a shell it would let `up` replace all nodes at once. `cluster roll` and `grow` set it themselves.
    os.environ.pop(ROLL_VARIABLE, None)


def main() -> None:
    """Run the command. A KryonixError prints its message and exits with its status."""
    try:
        app()
    except KryonixError as error:
        if "--json" in sys.argv:
            print_json({"error": str(error), "exit_status": error.exit_status})
        print_error(str(error))
        sys.exit(error.exit_status)
