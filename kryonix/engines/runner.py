"""A process that runs stacks with the local engine, one after the other: `python -m kryonix.engines.runner FD`.

The engine changes the working directory and uses global variables, so it has a process of its own. FD is a connection
on which the process gets requests, and sends events and results. When its parent ends, so does the connection, and the
process with it; the stack's journal has what was done.

To start one takes a second of the processor, for the SDK and the program's modules. These stay in its memory from run
to run, and so do the keys of stacks' secrets, which parent and child tell each other. Nothing else does.
"""

from __future__ import annotations

import _thread
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryFile
from threading import Event, Lock, Thread
from typing import Any, Final

from kryonix.engines.engine import ignore
from kryonix.engines.errors import EngineFailed, OperationDied
from kryonix.engines.events import OnEvent, Summary
from kryonix.engines.local import LocalStack
from kryonix.engines.local.errors import StateLocked
from kryonix.engines.local.secrets import KEYS
from kryonix.errors import KryonixError

_END_S: Final = 15
"""Seconds for a process to end in order, before it is killed."""

_ORDERLY_S: Final = 5
"""Seconds for a run without a parent to end in order."""

_LOCKED_S: Final = 2 * _ORDERLY_S
"""Seconds that a run without a parent may hold a stack."""

_ACCEPTED: Final = "accepted"
"""The answer to a request, before the run begins."""

Request = Mapping[str, Any]
"""`operation`, `project`, `stack`, `config_file`; `last` is True to end the process with this run, `events` to be told
of its events.
"""


Keys = tuple[dict[bytes, bytes]]
"""A message of either side: keys of stacks' secrets, by name, that the other side may not have."""


class RunnerGone(EngineFailed):
    """The process ended before it began the run: another one can run it."""


class Runner:
    """The parent's side. Runs one request at a time; `close` it afterwards."""

    def __init__(self, project: Path) -> None:
        self._connection, theirs = Pipe()
        self._stderr = TemporaryFile()  # noqa: SIM115  closed with the process
        self._ended = ""
        # The project need not have this package.
        python_path = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603  a module of ours; input goes through the connection
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                cwd=project,
                env={**os.environ, "PYTHONPATH": python_path},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                pass_fds=[theirs.fileno()],
            )
        self._known: set[bytes] = set()

    def run(self, request: Request, on_event: OnEvent) -> Summary:
        """Run a stack. Raises EngineFailed: RunnerGone if the run has not begun, OperationDied if it has no result."""
        begun = False
        with suppress(EOFError, OSError):  # it has ended, perhaps killed while it wrote
            self._connection.send(self._unknown())
            self._connection.send(request)
            while True:
                message = self._connection.recv()
                if message == _ACCEPTED:
                    begun = True
                elif isinstance(message, tuple):
                    KEYS.learn(message[0])
                    self._known |= message[0].keys()
                elif isinstance(message, EngineFailed):
                    raise message
                elif isinstance(message, Summary):
                    return message
                else:
                    on_event(message)
        self.close()
        if not begun:
            raise RunnerGone(f"the process for the stack {request['stack']!r} {self._ended} before it began")
        raise OperationDied(request["stack"], self._ended)

    def hang_up(self) -> None:
        """Tell the process to end, without waiting for it."""
        self._connection.close()

    def close(self) -> None:
        """End the process: in order if it can, at once if it waits for a request."""
        self.hang_up()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if not self._stderr.closed:
            self._ended = self._ending()
            self._stderr.close()

    def _unknown(self) -> Keys:
        """Return the keys that this process has derived and the other has not been told."""
        keys = {name: key for name, key in KEYS.known().items() if name not in self._known}
        self._known |= keys.keys()
        return (keys,)

    def _ending(self) -> str:
        """Return how the process ended, with the last line of its standard error."""
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        status = self._process.returncode
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        return f"{how} ({lines[-1][:200]})" if lines else how


def main() -> None:
    """Run the requests that come on the connection in the argument, and report there."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    connection = Connection(int(sys.argv[1]))
    requests: SimpleQueue[Request | None] = SimpleQueue()
    busy, sending = Event(), Lock()
    Thread(target=_receive, args=[connection, requests, busy], daemon=True).start()

    def send(message: Any) -> None:
        with sending, suppress(OSError):  # the parent is gone
            connection.send(message)

    gc.freeze()  # what is there stays
    while (request := requests.get()) is not None:
        busy.set()
        send(_ACCEPTED)
        known = KEYS.known().keys()
        result = _result(request, send if request["events"] else ignore)
        send(({name: key for name, key in KEYS.known().items() if name not in known},))
        send(result)
        if request["last"]:
            break
        busy.clear()


def _receive(connection: Connection, requests: SimpleQueue[Request | None], busy: Event) -> None:
    """Take in requests and keys until the parent closes the connection, then end this process."""
    with suppress(EOFError, OSError):
        while True:
            message = connection.recv()
            if isinstance(message, tuple):
                KEYS.learn(message[0])
            else:
                requests.put(message)
    requests.put(None)
    if busy.is_set():
        _thread.interrupt_main()
        time.sleep(_ORDERLY_S)
        os._exit(130)


def _result(request: Request, on_event: OnEvent) -> Summary | EngineFailed:
    try:
        return replace(_performed(request, on_event), outputs={})  # they may be secret
    except KeyboardInterrupt:
        sys.exit(130)
    except KryonixError as error:
        return EngineFailed(str(error), error.exit_status, error.failure)
    except Exception as error:  # noqa: BLE001  the parent raises it; the text of a library's error alone says little
        return EngineFailed(f"{type(error).__name__}: {error}")


def _performed(request: Request, on_event: OnEvent) -> Summary:
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


if __name__ == "__main__":
    main()
