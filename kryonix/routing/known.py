"""What is known of a message when it is sent: all that a model may look at."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final
from zlib import crc32

DEVICES: Final = ("unknown", "web", "mobile")
FEATURES: Final = ("shape: time", "shape: left", "bytes", "device", "hour", "weekday", "priority")
"""The numbers that a forest reads, in order. The first two stand for the payload's shape, as the model knows it."""

URGENT_MS: Final = 30_000
"""A message with a shorter time to live is urgent."""
USUAL_PRIORITY: Final = 5

_DAY_S: Final = 86_400


@dataclass(slots=True, unsafe_hash=True)  # frozen, it takes 2 µs to make, at each send
class Known:
    """A message before it is sent; not to be changed.

    `shape` is a keyed hash of its keys and their types, never of a value.
    """

    module: str
    action: str
    at: float
    """Seconds since 1970."""
    message_id: str
    bytes: int
    """Size of the body before compression."""
    device: str
    shape: str
    priority: int | None
    """As given by the sender."""
    expires_ms: float | None
    """Time to live as given by the sender, in ms."""

    @property
    def hour(self) -> int:
        """0 to 23, UTC."""
        return int(self.at % _DAY_S) // 3600

    @property
    def weekday(self) -> int:
        """0 for Monday to 6."""
        return (int(self.at // _DAY_S) + 3) % 7  # 1970 began on a Thursday


def rules_priority(priority: int | None, expires_ms: float | None) -> int:
    """Return the priority that the rules choose: as given, but 8 for a message with less than half a minute to live."""
    given = USUAL_PRIORITY if priority is None else priority
    return 8 if given < 8 and expires_ms is not None and expires_ms <= URGENT_MS else given


def log_error(ms: float | None, expected: float | None) -> float | None:
    """Return the error of an expected time, both as natural logarithms of ms, of at least one; None if one is unknown.

    `expected` is a logarithm already.
    """
    return None if ms is None or expected is None else math.log(max(ms, 1.0)) - expected


def draw(message_id: str, what: int) -> float:
    """Return a number from 0 to below 1, always the same for a message and one of the multipliers below.

    Not by a cryptographic hash: one of those takes 3 µs more between the rest of a send.
    """
    try:
        code = message_id.encode()
    except UnicodeEncodeError:  # always to allow for a lone surrogate takes longer
        code = message_id.encode(errors="surrogatepass")
    return (crc32(code) * what & 0xFFFF_FFFF) / 2**32


EXPLORES: Final = 0x9E37_79B1
"""What it draws for: whether a message is left to the rules to compare, as a share of those that a model decides."""
FOLLOWS: Final = 0x85EB_CA77
"""Whether a model decides it, as a share of all."""
NOTES: Final = 0xC2B2_AE3D
"""Whether notes are taken of it. The three are the first primes of xxHash, and independent of each other."""
