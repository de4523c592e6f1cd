"""Run the project's Pulumi program without the Pulumi CLI; the CLI can take over its state."""

from kryonix.engines.local.stack import LocalStack

__all__ = ["LocalStack"]
