"""Stacks run by the local engine, each operation in a process of its own."""

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
from kryonix.engines.errors import EngineFailed, OperationDied, Refused
from kryonix.engines.events import Event, OnEvent, Summary
from kryonix.engines.local import LocalStack
from kryonix.engines.local.store import state_root
from kryonix.engines.run_folder import run_folder
from kryonix.engines.spec import StackSpec, ignore
from kryonix.engines.workspace import check_name, config_file

__all__ = ["LocalDeployer"]

_Operation = Literal["preview", "up", "refresh", "destroy"]

_END_S: Final = 15
"""How long a process may take to end in order once it is not needed any more."""


class LocalDeployer:
    """A project's stacks, whose state is in the project's own folder, or in KRYONIX_STATE_DIR."""

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

    def outputs(self, stack: StackSpec) -> dict[str, Any]:
        check_name(stack.name)
        return LocalStack(self._project, stack.name).outputs(show_secrets=True)

    def export(self, stack: StackSpec) -> dict[str, Any]:
        check_name(stack.name)
        return LocalStack(self._project, stack.name).export()

    def stacks(self) -> list[str]:
        root = state_root(self._project)
        names = sorted(path.name for path in root.iterdir() if _is_stack(path)) if root.is_dir() else []
        return [name for name in names if LocalStack(self._project, name).has_resources]

    def _run(self, operation: _Operation, stack: StackSpec, on_event: OnEvent) -> Summary:
        check_name(stack.name)
        with self._slots, run_folder() as folder:
            request = {
                "operation": operation,
                "project": str(self._project),
                "stack": stack.name,
                "config_file": str(config_file(folder, stack)),
            }
            with _Child(self._project, request) as child:
                for said in child.says():
                    if isinstance(said, EngineFailed):
                        raise said
                    if isinstance(said, Summary):
                        return said
                    on_event(said)
            raise OperationDied(stack.name, child.ended)


class _Child:
    """A process that runs one operation. It ends with the block that it is used in, or with this process."""

    ended = "did not end"

    def __init__(self, project: Path, request: Mapping[str, str]) -> None:
        self._project = project
        self._request = request

    def __enter__(self) -> _Child:
        reading, writing = os.pipe()
        self._lines = os.fdopen(reading, "rb")
        self._complaints = TemporaryFile()
        try:
            self._process = subprocess.Popen(  # noqa: S603  a module of ours; what a caller says goes by its pipe
                [sys.executable, "-m", "kryonix.engines.child", str(writing)],
                cwd=self._project,
                env={**os.environ, "PYTHONPATH": _python_path()},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._complaints,
                pass_fds=[writing],
            )
        finally:
            os.close(writing)
        return self

    def says(self) -> Iterator[Event | Summary | EngineFailed]:
        """What the run tells, until it ends."""
        self._ask()
        for line in self._lines:
            if line.endswith(b"\n"):  # else it was killed in mid-line
                yield wire.read(line)

    def __exit__(self, *exc: object) -> None:
        with suppress(OSError):
            self._stdin.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.ended = _told(self._process.returncode, self._complaints)
        self._lines.close()
        self._complaints.close()

    def _ask(self) -> None:
        with suppress(OSError):  # it died at once: that is seen where its lines end
            self._stdin.write(json.dumps(self._request).encode() + b"\n")
            self._stdin.flush()

    @property
    def _stdin(self) -> IO[bytes]:
        if self._process.stdin is None:
            raise ValueError("a child is always made with a pipe")
        return self._process.stdin


def _python_path() -> str:
    """Where a child finds this package too: a project has it in its folder or installed, but need not."""
    return os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))


def _told(status: int, complaints: IO[bytes]) -> str:
    """How a process ended, with the last line that it wrote of its own."""
    complaints.seek(0)
    lines = complaints.read().decode(errors="replace").strip().splitlines()
    how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    return f"{how} ({lines[-1][:200]})" if lines else how


def _is_stack(folder: Path) -> bool:
    with suppress(Refused):
        check_name(folder.name)
        return folder.is_dir()
    return False
