"""One action's queue, replayed: strict priority, first in first out within one, as many handlers as there were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush, heapreplace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Priorities = NDArray[np.int64]

_PRIORITIES = 11


@dataclass(frozen=True, slots=True)
class Traffic:
    """The messages of an action in the order of their arrival. All times are ms."""

    arrivals: Numbers
    handlings: Numbers
    deadlines: Numbers
    """How long a message may wait."""
    stated: NDArray[np.bool_]
    """Whether the sender stated the deadline: then the broker drops the message once it is over."""
    servers: int

    def __len__(self) -> int:
        return len(self.arrivals)

    @property
    def load(self) -> float:
        """The handlers' work that arrives, against what they can do."""
        span = max(float(self.arrivals[-1] - self.arrivals[0]), 1.0)
        return float(self.handlings.sum()) / (self.servers * span)

    def at(self, load: float) -> Traffic:
        """Return the same messages closer together or further apart, so that their load is this."""
        first = self.arrivals[0]
        return replace(self, arrivals=(self.arrivals - first) * (self.load / load))


@dataclass(frozen=True, slots=True)
class Waits:
    """How long each message waited in ms: until its handler started, or until it was found to be too late."""

    waits: Numbers
    dropped: NDArray[np.bool_]
    missed: NDArray[np.bool_]

    @property
    def share_missed(self) -> float:
        return float(self.missed.mean())

    @property
    def longest(self) -> float:
        """Of a message that was handled, in ms."""
        handled = self.waits[~self.dropped]
        return float(handled.max()) if len(handled) else 0.0


def simulate(traffic: Traffic, priorities: Sequence[int] | Priorities) -> Waits:
    """Replay the traffic with these priorities, 0 to 10, without preemption.

    A message whose stated expiry has passed is dropped when its turn comes, without work, as RabbitMQ does.
    """
    number = len(traffic)
    arrivals, handlings = traffic.arrivals.tolist(), traffic.handlings.tolist()
    limits = np.where(traffic.stated, traffic.deadlines, np.inf).tolist()
    # One integer per message, in the order of delivery: 10 first, then by arrival.
    keys = ((_PRIORITIES - np.asarray(priorities, dtype=np.int64)) * number + np.arange(number)).tolist()
    waits, dropped = [0.0] * number, [False] * number
    free: list[float] = [arrivals[0]] * traffic.servers
    heapify(free)
    waiting: list[int] = []
    arrived = 0
    while arrived < number or waiting:
        now = free[0]
        if not waiting and arrivals[arrived] > now:
            now = arrivals[arrived]
        while arrived < number and arrivals[arrived] <= now:
            heappush(waiting, keys[arrived])
            arrived += 1
        message = heappop(waiting) % number
        waits[message] = waited = now - arrivals[message]
        if waited > limits[message]:
            dropped[message] = True
        else:
            heapreplace(free, now + handlings[message])
    found = np.array(waits)
    return Waits(found, np.array(dropped), found > traffic.deadlines)


def count_servers(arrivals: Numbers, waits: Numbers, handlings: Numbers) -> int:
    """Return how many messages were handled at once while others waited.

    Of sampled outcomes it is the same part of the real number, and so is their load.
    """
    starts, ends = arrivals + waits, arrivals + waits + handlings
    busy = np.searchsorted(np.sort(starts), starts, side="right") - np.searchsorted(np.sort(ends), starts, side="right")
    queued = busy[waits > max(1.0, float(np.median(handlings)) / 10)]
    found: Any = np.median(queued) if len(queued) >= 30 else np.quantile(busy, 0.99)
    return max(round(float(found)), 1)
