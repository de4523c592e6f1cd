"""The process that runs one operation of the local engine: `python -m kryonix.engines.child FD`.

The engine changes the working directory and uses global variables, so each operation has its own process. The request
comes on standard input, which stays open: when the parent ends, so does standard input, and this process with it. The
stack's journal has what was done.
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
from kryonix.engines.events import OnEvent, Summary
from kryonix.engines.local import LocalStack
from kryonix.engines.local.errors import StateLocked

_ORDERLY_S: Final = 5
"""Seconds for a run without a parent to end in order."""

_LOCKED_S: Final = 2 * _ORDERLY_S
"""Seconds that a run without a parent may hold a stack."""


def main() -> None:
    """Run the request on standard input, and report on the file descriptor in the argument."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    channel = int(sys.argv[1])
    line = sys.stdin.buffer.readline()
    if not line:
        return  # the parent ended before its request
    request = json.loads(line)
    Thread(target=_end_with_parent, daemon=True).start()

    try:
        summary = _run(request, lambda event: _write(channel, wire.of_event(event)))
        _write(channel, wire.of_summary(summary))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # noqa: BLE001  the parent raises it
        _write(channel, wire.of_error(error))


def _run(request: dict[str, Any], on_event: OnEvent) -> Summary:
    """Run the operation. Wait for a locked stack: a run whose parent was killed takes a moment to end."""
    stack = LocalStack(
        Path(request["project"]), request["stack"], config_file=Path(request["config_file"]), on_event=on_event
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
        os.read(0, 1)  # returns when the parent has closed it
    _thread.interrupt_main()
    time.sleep(_ORDERLY_S)
    os._exit(130)


def _write(channel: int, line: bytes) -> None:
    with suppress(OSError):  # the parent is gone
        view = memoryview(line)
        while view:
            view = view[os.write(channel, view) :]


if __name__ == "__main__":
    main()
