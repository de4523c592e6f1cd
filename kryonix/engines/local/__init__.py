"""Run the project's Pulumi program without the Pulumi CLI, with a state that the CLI can take over."""

from kryonix.engines.local.stack import LocalStack

__all__ = ["LocalStack"]
