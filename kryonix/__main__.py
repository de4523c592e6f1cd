"""`kryonix` and `python -m kryonix`."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress


def main() -> None:
    """Run the command, and end without a traceback for an interrupt or an unusable stream, from the imports on."""
    try:
        _open_closed_streams()
        try:
            _run()
        finally:
            sys.stdout.flush()  # at the interpreter's own flush it is too late for a message
    except KeyboardInterrupt:
        _end("interrupted", 130)
    except BrokenPipeError:
        _end("", 1)
    except OSError as error:
        written = error.filename is None and error.errno in (errno.EBADF, errno.EIO, errno.ENOSPC)
        _end(f"error: standard output: {error.strerror}" if written else f"error: {error}", 1)


def _run() -> None:
    """Run the command. Without its dependencies, print how to install them: applications install only the SDK."""
    try:
        from kryonix.cli.app import main as command
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "kryonix":
            raise
        sys.exit(
            f"kryonix: {error.name} is not installed: this installation has only the SDK. "
            "To install the command, run pip install '.[platform]' in the project's folder"
        )
    command()


def _open_closed_streams() -> None:
    """Open /dev/null for each closed stream. Output is refused there, so that no result is lost without an error."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR if name == "stderr" else os.O_RDONLY)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, mode))


def _end(message: str, status: int) -> None:
    """Exit with a line on standard error, if it can be written."""
    with suppress(OSError):
        sys.stderr.write(f"{message}\n" if message else "")
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # what is left in the buffer would fail again at the exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(status)


if __name__ == "__main__":
    main()
