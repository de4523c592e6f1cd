"""The command in a process that is forked from one with its dependencies imported: importing them is half of its work.

The project's own modules are not among them. Each process imports its folder's, as the command does.
"""

from __future__ import annotations

import atexit
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

__all__ = ["run"]

_DEPENDENCIES = (
    "aio_pika",
    "alembic.command",
    "asyncio",
    "cryptography.x509",
    "docker",
    "google.protobuf",
    "httpx",
    "psycopg",
    "pulumi",
    "pulumi.dynamic",
    "pulumi_docker",
    "pulumi_postgresql",
    "pulumi_rabbitmq",
    "pulumi_random",
    "pydantic",
    "rich.console",
    "rich.table",
    "typer",
    "typer.main",
    "urllib3",
    "yaml",
)
_ROOT = str(Path(__file__).parents[2])
_READ_AT_START = ("LANG", "LC_", "PYTHON", "TZ")
"""How the variables begin that Python reads when it starts."""

_starts_and_ends = Lock()
"""A start reads the status of processes that have ended, which can be read once."""


def run(
    arguments: Sequence[str], *, folder: Path, env: Mapping[str, str], timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run `python -m kryonix` in a folder, whatever its exit status. Raise TimeoutExpired after so many seconds."""
    command = [sys.executable, "-m", "kryonix", *arguments]
    if _of_python(env) != _of_python(os.environ):  # a running Python can't become one with others
        return subprocess.run(
            command,
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    with TemporaryDirectory(prefix="kryonix-output-") as made:
        outputs = [Path(made, name) for name in ("stdout", "stderr")]
        status = _status(_fork_server().Process(target=_become, args=(arguments, folder, dict(env), outputs)), timeout)
        stdout, stderr = (output.read_text() if output.exists() else "" for output in outputs)
    if status is None:
        raise subprocess.TimeoutExpired(command, timeout, stdout, stderr)
    return subprocess.CompletedProcess(command, status, stdout, stderr)


def _status(process: ForkServerProcess, timeout: float) -> int | None:
    """Run a process, and return its exit status. None if it has been killed after so many seconds."""
    with _starts_and_ends:
        process.start()
    try:
        ended = wait([process.sentinel], timeout)
    except BaseException:
        process.kill()
        raise
    with _starts_and_ends:
        if not ended:
            process.kill()
        process.join()
        status = process.exitcode
        process.close()
    return status if ended else None


def _of_python(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(_READ_AT_START)}


@cache
def _fork_server() -> ForkServerContext:
    context = get_context("forkserver")
    context.set_forkserver_preload(list(_DEPENDENCIES))
    return context


def _become(arguments: Sequence[str], folder: Path, env: dict[str, str], outputs: list[Path]) -> None:
    """Run the command in this process, which was forked for it."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    for number, output in enumerate(outputs, start=1):
        file = os.open(output, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    sys.path[:] = [str(folder), *(entry for entry in sys.path if entry != _ROOT)]
    sys.argv[:] = ["kryonix", *arguments]
    try:
        runpy.run_module("kryonix", run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # a process of multiprocessing ends without them
