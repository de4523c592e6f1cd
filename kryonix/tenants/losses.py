"""The program's refusal to lose messages, as an error that says which."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from kryonix.engines.errors import EngineFailed, WouldLoseMessages

__all__ = ["told"]

_REFUSED: Final = re.compile(r"this change would delete (?:the oldest messages of )?\d+ queue")
_QUEUE: Final = re.compile(r"^\s*([\d,]+) messages in (\S+) \(vhost ", re.MULTILINE)
_IN_CONFIG: Final = re.compile(r"in the stack's config, .*?:\s+kryonix:allowDelete: \[[^\]]*\]", re.DOTALL)
_PROTECTED: Final = re.compile(r"protect", re.IGNORECASE)


@contextmanager
def told(*, ignore_protection: bool = False) -> Iterator[None]:
    """Raise WouldLoseMessages for the program's refusal.

    With `ignore_protection`, an engine's own refusal to delete what is protected passes: the program, which comes
    first, has had nothing against it.
    """
    try:
        yield
    except EngineFailed as error:
        message = str(error)
        if _REFUSED.search(message):
            queues = {name: int(count.replace(",", "")) for count, name in _QUEUE.findall(message)}
            raise WouldLoseMessages(_for_tenants(message), queues) from error
        if not (ignore_protection and _PROTECTED.search(message)):
            raise


def _for_tenants(message: str) -> str:
    """The refusal with the remedy that one has here."""
    return _IN_CONFIG.sub("by naming each queue in allow_delete (`--allow-delete QUEUE`)", message)
