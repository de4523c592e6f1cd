"""A command on a terminal of its own: what its screen shows now, and keys."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import termios
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any, Self

from tests.support.waiting import eventually

_HOME = "\x1b[H"
"""What a full-screen program begins each frame with."""
_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A running command; leaving the block ends it."""

    def __init__(self, command: Sequence[str], folder: Path, env: Mapping[str, str]) -> None:
        self._master, self._slave = pty.openpty()
        termios.tcsetwinsize(self._slave, (40, 160))
        self.settings: list[Any] = termios.tcgetattr(self._slave)
        self.written = ""
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env={**env, "TERM": "xterm-256color"},
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
        )
        self._reading = Thread(target=self._read, daemon=True)
        self._reading.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._slave)
        self._reading.join(10)
        os.close(self._master)

    def _read(self) -> None:
        with suppress(OSError):  # nobody holds the other end any more
            while text := os.read(self._master, 65_536):
                self.written += text.decode(errors="replace")

    @property
    def frame(self) -> str:
        """The last frame, as plain text."""
        return _CODES.sub("", self.written.rpartition(_HOME)[2])

    @property
    def restored(self) -> bool:
        """True if the terminal is as it was, and shows what it showed before."""
        return bool(termios.tcgetattr(self._slave) == self.settings) and "\x1b[?1049l" in self.written

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def shows(self, *texts: str, without: str | None = None) -> None:
        """Wait until a frame has all texts, and has not the other."""
        try:
            eventually(
                f"{texts} on the screen",
                lambda: all(text in self.frame for text in texts) and (without is None or without not in self.frame),
                process=self.process,
            )
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.frame}") from error
