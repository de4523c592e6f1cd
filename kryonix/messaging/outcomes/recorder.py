"""Take notes of a share of the messages."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from kryonix.messaging.checks import check_type
from kryonix.messaging.errors import ConfigurationError
from kryonix.messaging.writer import Writer
from kryonix.routing.known import NOTES, draw
from kryonix.routing.shapes import Shapes

if TYPE_CHECKING:
    from kryonix.messaging.outcomes.note import Note

KEY_VARIABLE: Final = "KRYONIX_SHAPE_KEY"
_GATHER_S: Final = 0.2


@runtime_checkable
class OutcomeSink(Protocol):
    """A destination for notes. If it is slow or fails, messages go on, and lost notes are counted."""

    async def write(self, notes: Sequence[Note], /) -> None: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Where notes go, and of what share of the messages: those are the same for senders and consumers.

    `key` is for the shapes of payloads. Senders of one tenant need the same. Default: the environment's
    KRYONIX_SHAPE_KEY, or else the tenant's id; whoever knows that can check a guess of a payload's key names.
    """

    sink: OutcomeSink
    share: float = 0.1
    key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_type("sink", self.sink, OutcomeSink)
        check_type("key", self.key, str | None)
        if isinstance(self.share, bool) or not isinstance(self.share, (int, float)) or not 0 < self.share <= 1:
            problem = f"share: {self.share!r:.60} is not a share of the messages"
            raise ConfigurationError(problem, remedy="Pass a number above 0 and up to 1, such as 0.1")


def shapes_of(outcomes: Outcomes | None, tenant: str) -> Shapes:
    """Return the shapes under a tenant's key."""
    key = None if outcomes is None else outcomes.key
    return Shapes(key or os.environ.get(KEY_VARIABLE) or f"kryonix tenant {tenant}")


class Recorder:
    """Note a share of the messages in the background."""

    def __init__(self, outcomes: Outcomes) -> None:
        self._share = outcomes.share
        self.writer = Writer["Note"](outcomes.sink, "notes of outcomes", gather=_GATHER_S)

    def takes(self, message_id: str) -> bool:
        """Return True for a message to note."""
        return draw(message_id, NOTES) < self._share
