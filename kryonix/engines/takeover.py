"""Stacks that the local engine has begun, and that the CLI has not taken over yet."""

from __future__ import annotations

from pathlib import Path

from kryonix.engines.errors import BegunLocally
from kryonix.engines.local import LocalStack

__all__ = ["refuse_begun_locally"]


def refuse_begun_locally(project: Path, name: str) -> None:
    """Asked before the CLI makes a stack of this name. Raises BegunLocally where the local engine has made it.

    The CLI would begin with nothing in its state, and make everything a second time: under other passwords.
    """
    stack = name.rpartition("/")[2]
    if LocalStack(project, stack).has_resources:
        raise BegunLocally(stack)
