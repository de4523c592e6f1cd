"""The process that runs one operation of the local engine: `python -m kryonix.engines.child FD`.

The engine changes the folder it works in and keeps what it runs in globals, so each operation has a process of its
own. What to run comes by standard input, which stays open: it ends when the parent does, however that was, and this
process ends then too. What was done is in the stack's journal.
"""

from __future__ import annotations

import _thread
import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any, Final

from kryonix.engines import wire
from kryonix.engines.events import Event, Summary
from kryonix.engines.local import LocalStack
from kryonix.engines.local.errors import StateLocked

_ORDERLY_S: Final = 5
"""How long a run whose parent is gone may take to end in order."""

_LOCKED_S: Final = 2 * _ORDERLY_S
"""How long a stack may be held by a run whose parent is gone."""


def main() -> None:
    """Run what standard input asks for, and tell of it on the file descriptor that is the argument."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    channel = int(sys.argv[1])
    line = sys.stdin.buffer.readline()
    if not line:
        return  # the parent is gone before it asked for anything
    request = json.loads(line)
    Thread(target=_end_with_parent, daemon=True).start()

    def tell(event: Event) -> None:
        _write(channel, wire.of_event(event))

    try:
        _write(channel, wire.of_summary(_run(request, tell)))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # noqa: BLE001  whatever it is, the parent raises it
        _write(channel, wire.of_error(error))


def _run(request: dict[str, Any], tell: Any) -> Summary:
    """The operation; a stack that is held is waited for, as a run whose parent was killed takes a moment to end."""
    stack = LocalStack(
        Path(request["project"]), request["stack"], config_file=Path(request["config_file"]), on_event=tell
    )
    until = time.monotonic() + _LOCKED_S
    while True:
        try:
            summary: Summary = getattr(stack, request["operation"])()
        except StateLocked:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
        else:
            return summary


def _end_with_parent() -> None:
    with suppress(OSError):
        os.read(0, 1)  # nothing is ever sent: this returns once the other end is closed
    _thread.interrupt_main()
    time.sleep(_ORDERLY_S)
    os._exit(130)


def _write(channel: int, line: bytes) -> None:
    with suppress(OSError):  # nobody listens any more
        view = memoryview(line)
        while view:
            view = view[os.write(channel, view) :]


if __name__ == "__main__":
    main()
