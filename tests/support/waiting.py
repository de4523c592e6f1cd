"""Wait for facts, never for time to pass. A deadline is for what never comes, on a machine of any speed."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

__all__ = ["eventually", "eventually_async"]

T = TypeVar("T")


def eventually(
    what: str,
    look: Callable[[], T | None],
    within: float = 180,
    *,
    process: subprocess.Popen[Any] | None = None,
    ignoring: tuple[type[Exception], ...] = (),
) -> T:
    """Return the first true result of `look`. Fail after `within` seconds, or once `process` has ended."""
    deadline = time.monotonic() + within
    while True:
        found = None
        with suppress(*ignoring):
            found = look()
        if found:
            return found
        assert process is None or process.poll() is None, f"{process.args!r} ended before {what}"
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(0.05)


async def eventually_async(
    look: Callable[[], Any],
    within: float = 180,
    *,
    every: float = 0.02,
    ignoring: tuple[type[Exception], ...] = (),
) -> Any:
    """Return the first true result of `look`, a function or a coroutine function. Raises TimeoutError."""
    async with asyncio.timeout(within):
        while True:
            found = None
            with suppress(*ignoring):
                found = look()
                if isinstance(found, Awaitable):
                    found = await found
            if found:
                return found
            await asyncio.sleep(every)
