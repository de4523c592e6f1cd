"""The local engine behind the engines' interface, with a child process for each stack that has a config of its own.

The engine changes the working directory and uses global variables, so each of these operations has a process:
`python -m kryonix.engines.process FD`. FD is a connection on which the child gets the request and sends events and the
result. When the parent ends, so does the connection, and the child with it; the stack's journal has what was done.
"""

from __future__ import annotations

import _thread
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partialmethod
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryFile
from threading import BoundedSemaphore, Lock, Thread
from typing import IO, Any, Final

from kryonix.engines.deployments import Change, Deployment
from kryonix.engines.engine import StackSpec, ignore, trusted
from kryonix.engines.errors import EngineFailed, OperationDied, Refused
from kryonix.engines.events import OnEvent, Summary
from kryonix.engines.local import LocalStack
from kryonix.engines.local.errors import StateCorrupt, StateLocked
from kryonix.engines.local.store import Store, state_root
from kryonix.engines.program_files import program_digest
from kryonix.engines.workspace import check_name, config_file, run_folder
from kryonix.errors import KryonixError

_END_S: Final = 15
"""Seconds for a child process to end in order, before it is killed."""

_ORDERLY_S: Final = 5
"""Seconds for a run without a parent to end in order."""

_LOCKED_S: Final = 2 * _ORDERLY_S
"""Seconds that a run without a parent may hold a stack."""


class LocalEngine:
    """The local engine. The state is in the project's folder, or in KRYONIX_STATE_DIR.

    A stack with the project's own config file runs in this process, one with a config of its own in a child process.
    """

    def __init__(self, project: Path, *, concurrency: int = 4) -> None:
        self._project = project.absolute()
        self._slots = BoundedSemaphore(concurrency)

    def outputs(self, stack: StackSpec, *, show_secrets: bool = True) -> dict[str, Any]:
        return trusted(self._open(stack).outputs(show_secrets=show_secrets))

    def export(self, stack: StackSpec, *, show_secrets: bool = False) -> dict[str, Any]:
        return self._open(stack).export(show_secrets)

    def rewrite(self, stack: StackSpec, change: Change) -> None:
        self._open(stack).rewrite(change)

    def restore(self, stack: StackSpec, deployment: Deployment) -> None:
        self._open(stack).restore(deployment)

    def stacks(self) -> list[str]:
        root = state_root(self._project)
        names = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
        return [name for name in names if self._has_resources(name)]

    def marks(self, names: Collection[str]) -> dict[str, str]:
        root = state_root(self._project)
        return {name: mark for name in names if (mark := Store(root, name).mark)}

    def program_digest(self) -> str:
        return program_digest(self._project)

    def _has_resources(self, name: str) -> bool:
        try:
            return LocalStack(self._project, name).has_resources
        except Refused:  # not a stack's folder
            return False
        except StateCorrupt:  # what uses this stack reports it; the others are as usable as before
            return True

    def _open(self, stack: StackSpec, on_event: OnEvent = ignore) -> LocalStack:
        return LocalStack(self._project, stack.name, config_file=stack.config_file, on_event=on_event)

    def _run(self, operation: str, stack: StackSpec, on_event: OnEvent = ignore) -> Summary:
        if stack.config is None:
            with self._slots:
                summary: Summary = getattr(self._open(stack, on_event), operation)()
                return summary
        check_name(stack.name)
        with self._slots, run_folder() as folder, TemporaryFile() as stderr:
            request = {
                "operation": operation,
                "project": self._project,
                "stack": stack.name,
                "config_file": config_file(folder, stack),
            }
            with _child(self._project, stderr) as (process, connection):
                for message in _messages(connection, request):
                    if isinstance(message, EngineFailed):
                        raise message
                    if isinstance(message, Summary):
                        return message
                    on_event(message)
            raise OperationDied(stack.name, _ending(process.returncode, stderr))

    preview = partialmethod(_run, "preview")
    up = partialmethod(_run, "up")
    refresh = partialmethod(_run, "refresh")
    destroy = partialmethod(_run, "destroy")


@contextmanager
def _child(project: Path, stderr: IO[bytes]) -> Iterator[tuple[subprocess.Popen[bytes], Connection]]:
    """Yield a process for one operation, and its connection. It ends with the block, or with this process."""
    ours, theirs = Pipe()
    # The project need not have this package.
    python_path = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
    with ours:
        with theirs:
            process = subprocess.Popen(  # noqa: S603  a module of ours; input goes through the connection
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                cwd=project,
                env={**os.environ, "PYTHONPATH": python_path},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                pass_fds=[theirs.fileno()],
            )
        try:
            yield process, ours
        finally:
            ours.close()
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _messages(connection: Connection, request: Mapping[str, Any]) -> Iterator[Any]:
    """Yield what the run reports, until it ends."""
    with suppress(EOFError, OSError):  # it has ended, perhaps killed while it wrote
        connection.send(request)
        while True:
            yield connection.recv()


def _ending(status: int, stderr: IO[bytes]) -> str:
    """Return how a process ended, with the last line of its standard error."""
    stderr.seek(0)
    lines = stderr.read().decode(errors="replace").strip().splitlines()
    how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    return f"{how} ({lines[-1][:200]})" if lines else how


def main() -> None:
    """Run the request that comes on the connection in the argument, and report there."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    connection = Connection(int(sys.argv[1]))
    try:
        request = connection.recv()
    except EOFError:
        return  # the parent ended before its request
    Thread(target=_end_with_parent, args=[connection], daemon=True).start()
    sending = Lock()

    def send(message: Any) -> None:
        with sending, suppress(OSError):  # the parent is gone
            connection.send(message)

    try:
        send(replace(_performed(request, send), outputs={}))  # they may be secret
    except KeyboardInterrupt:
        sys.exit(130)
    except KryonixError as error:
        send(EngineFailed(str(error), error.exit_status, error.failure))
    except Exception as error:  # noqa: BLE001  the parent raises it; the text of a library's error alone says little
        send(EngineFailed(f"{type(error).__name__}: {error}"))


def _performed(request: Mapping[str, Any], on_event: OnEvent) -> Summary:
    """Run the operation. Wait for a locked stack: a run whose parent was killed takes a moment to end."""
    config_file = request["config_file"]
    stack = LocalStack(request["project"], request["stack"], config_file=config_file, on_event=on_event)
    run: Callable[[], Summary] = getattr(stack, request["operation"])
    until = time.monotonic() + _LOCKED_S
    while time.monotonic() < until:
        with suppress(StateLocked):
            return run()
        time.sleep(0.2)
    return run()


def _end_with_parent(connection: Connection) -> None:
    with suppress(EOFError, OSError):
        connection.recv()  # ends when the parent has closed it
    _thread.interrupt_main()
    time.sleep(_ORDERLY_S)
    os._exit(130)


if __name__ == "__main__":
    main()
