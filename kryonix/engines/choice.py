"""Choice of the engine: the Pulumi CLI, or the local engine."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

from kryonix.engines.engine import Engine
from kryonix.engines.errors import BegunLocally, EngineUnavailable
from kryonix.engines.platform_file import DescribedPlatforms, described_platforms

Choice = Literal["auto", "pulumi", "local"]


def engine_for(choice: Choice, project: Path, *, concurrency: int = 4, keep: bool = False) -> Engine:
    """Return the engine for a project's stacks; `auto` is the Pulumi CLI if on PATH. Raises EngineUnavailable.

    Platforms that KRYONIX_PLATFORM_FILE describes are read from there. With `keep`, the local engine uses its processes
    again, for many runs; the CLI has a process for each.
    """
    engine, platforms = _running(choice, project, concurrency, keep), described_platforms()
    return DescribedPlatforms(engine, platforms) if platforms else engine


def _running(choice: Choice, project: Path, concurrency: int, keep: bool) -> Engine:
    installed = shutil.which("pulumi") is not None
    if choice == "pulumi" and not installed:
        remedy = "Install it (https://www.pulumi.com/docs/install/), or use `--engine local`"
        raise EngineUnavailable(f"the engine 'pulumi' needs the `pulumi` command, which is not on PATH. {remedy}")
    if installed and choice != "local":
        from kryonix.engines.pulumi_cli import PulumiEngine  # imports the whole SDK, 0.4 s

        return PulumiEngine(project, concurrency=concurrency, before_creation=refuse_begun_locally)
    from kryonix.engines.process import LocalEngine

    return LocalEngine(project, concurrency=concurrency, keep=keep)


def refuse_begun_locally(project: Path, name: str) -> None:
    """Raise BegunLocally if the local engine has made the stack: the CLI would make everything a second time."""
    from kryonix.engines.local import LocalStack

    stack = name.rpartition("/")[2]
    if LocalStack(project, stack).has_resources:
        raise BegunLocally(stack)
