"""The local engine behind the engines' interface, and the child process for stacks with a config of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from threading import BoundedSemaphore
from typing import IO, Any, Final, Literal

from kryonix.engines import wire
from kryonix.engines.engine import StackSpec, ignore
from kryonix.engines.errors import EngineFailed, OperationDied, Refused
from kryonix.engines.events import Event, OnEvent, Summary
from kryonix.engines.local import LocalStack
from kryonix.engines.local.store import state_root
from kryonix.engines.workspace import check_name, config_file, run_folder

_Operation = Literal["preview", "up", "refresh", "destroy"]

_END_S: Final = 15
"""Seconds for a child process to end in order, before it is killed."""


class LocalEngine:
    """The local engine. The state is in the project's folder, or in KRYONIX_STATE_DIR.

    A stack with the project's own config file runs in this process, one with a config of its own in a child process.
    """

    def __init__(self, project: Path, *, concurrency: int = 4) -> None:
        self._project = project.absolute()
        self._slots = BoundedSemaphore(concurrency)

    def preview(self, stack: StackSpec, on_event: OnEvent = ignore) -> Summary:
        return self._run("preview", stack, on_event)

    def up(self, stack: StackSpec, on_event: OnEvent = ignore) -> Summary:
        return self._run("up", stack, on_event)

    def refresh(self, stack: StackSpec, on_event: OnEvent = ignore) -> Summary:
        return self._run("refresh", stack, on_event)

    def destroy(self, stack: StackSpec, on_event: OnEvent = ignore) -> Summary:
        return self._run("destroy", stack, on_event)

    def outputs(self, stack: StackSpec, *, show_secrets: bool = True) -> dict[str, Any]:
        return self._open(stack).outputs(show_secrets=show_secrets)

    def export(self, stack: StackSpec) -> dict[str, Any]:
        return self._open(stack).export()

    def stacks(self) -> list[str]:
        root = state_root(self._project)
        names = sorted(path.name for path in root.iterdir() if _is_stack(path)) if root.is_dir() else []
        return [name for name in names if LocalStack(self._project, name).has_resources]

    def _open(self, stack: StackSpec, on_event: OnEvent = ignore) -> LocalStack:
        return LocalStack(self._project, stack.name, config_file=stack.config_file, on_event=on_event)

    def _run(self, operation: _Operation, stack: StackSpec, on_event: OnEvent) -> Summary:
        if stack.config is None:
            with self._slots:
                summary: Summary = getattr(self._open(stack, on_event), operation)()
                return summary
        check_name(stack.name)
        with self._slots, run_folder() as folder:
            request = {
                "operation": operation,
                "project": str(self._project),
                "stack": stack.name,
                "config_file": str(config_file(folder, stack)),
            }
            with _Child(self._project, request) as child:
                for message in child.messages():
                    if isinstance(message, EngineFailed):
                        raise message
                    if isinstance(message, Summary):
                        return message
                    on_event(message)
            raise OperationDied(stack.name, child.ended)


class _Child:
    """A process that runs one operation. It ends with its `with` block, or with this process."""

    ended = "did not end"

    def __init__(self, project: Path, request: Mapping[str, str]) -> None:
        self._project = project
        self._request = request

    def __enter__(self) -> _Child:
        reading, writing = os.pipe()
        self._lines = os.fdopen(reading, "rb")
        self._stderr = TemporaryFile()
        try:
            self._process = subprocess.Popen(  # noqa: S603  a module of ours; input goes through a pipe
                [sys.executable, "-m", "kryonix.engines.child", str(writing)],
                cwd=self._project,
                env={**os.environ, "PYTHONPATH": _python_path()},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                pass_fds=[writing],
            )
        finally:
            os.close(writing)
        return self

    def messages(self) -> Iterator[Event | Summary | EngineFailed]:
        """Yield what the run reports, until it ends."""
        with suppress(OSError):  # it died at once, and its lines end
            self._stdin.write(json.dumps(self._request).encode() + b"\n")
            self._stdin.flush()
        for line in self._lines:
            if line.endswith(b"\n"):  # else it was killed while it wrote
                yield wire.read(line)

    def __exit__(self, *exc: object) -> None:
        with suppress(OSError):
            self._stdin.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.ended = _ending(self._process.returncode, self._stderr)
        self._lines.close()
        self._stderr.close()

    @property
    def _stdin(self) -> IO[bytes]:
        if self._process.stdin is None:
            raise ValueError("the child process has no standard input")
        return self._process.stdin


def _python_path() -> str:
    """Return a module path with this package, which the project need not have."""
    return os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))


def _ending(status: int, stderr: IO[bytes]) -> str:
    """Return how a process ended, with the last line of its standard error."""
    stderr.seek(0)
    lines = stderr.read().decode(errors="replace").strip().splitlines()
    how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    return f"{how} ({lines[-1][:200]})" if lines else how


def _is_stack(folder: Path) -> bool:
    with suppress(Refused):
        check_name(folder.name)
        return folder.is_dir()
    return False
