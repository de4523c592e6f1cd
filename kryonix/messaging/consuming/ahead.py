"""How many messages a consumer is handed ahead, and how long the broker is asked to wait for their answers.

The broker's own limit (30 minutes, or a policy's) knows no handler: what it takes back is delivered again, as if it had
never been, for ever. So every consumer asks for the time it needs, and takes no more ahead than fits into it.
"""

from __future__ import annotations

import math
from typing import Final

__all__ = ["DAY", "LONGEST_HANDLER", "take_ahead"]

DAY: Final = 86_400.0
"""Seconds the broker is asked to wait at least. A consumer that dies is noticed by its connection, far sooner."""
LONGEST_HANDLER: Final = DAY
_LONGEST: Final = 5 * DAY
"""Seconds it is asked to wait at most: a handler of the longest kind, behind one in each lane of its action."""
_AROUND: Final = 30.0
"""Seconds that a message may take beside its handler: to be claimed, remembered, moved."""


def take_ahead(prefetch: int, concurrency: int, queues: int, handler_timeout: float | None) -> tuple[int, float]:
    """The messages to be handed ahead from each of the queues, and the seconds within which the last one is answered.

    Without a handler timeout nobody knows the latter, and it is a day.
    """
    if handler_timeout is None:
        return prefetch, DAY
    each = handler_timeout + _AROUND
    fitting = int(_LONGEST // each) * concurrency // queues
    prefetch = max(min(prefetch, fitting), 1)
    return prefetch, max(math.ceil(prefetch * queues / concurrency) * each, DAY)
