"""The messaging metrics of OpenTelemetry: messages sent and consumed, and durations."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation

from kryonix import __version__

if TYPE_CHECKING:
    from kryonix.routing.modes import Decided

_BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""The conventions' advice for every duration."""


_TRUSTED_S: Final = 0.1

decisions: list[Mapping[tuple[str, str], Counter[Decided]]] = []
"""The counts of each learned router: by module and action, and who decided."""


def _decided(options: CallbackOptions) -> Iterable[Observation]:
    found: defaultdict[tuple[str, str], Counter[Decided]] = defaultdict(Counter)
    for each in decisions:
        for route, counts in list(each.items()):  # another thread may add to it
            found[route] += counts
    for route, counts in found.items():
        for who, count in counts.items():
            yield Observation(count, {"kryonix.action": ".".join(route), "kryonix.decided_by": who})


class Instruments:
    """The instruments of a meter. Those of the API's own meter get a provider later, if one is installed."""

    def __init__(self, meter: Meter) -> None:
        def seconds(name: str, text: str) -> Histogram:
            return meter.create_histogram(name, "s", text, explicit_bucket_boundaries_advisory=_BOUNDS_S)

        self._counts = {
            "send": meter.create_counter("messaging.client.sent.messages", "{message}", "Messages sent to the broker."),
            "process": meter.create_counter(
                "messaging.client.consumed.messages", "{message}", "Messages handed to the application."
            ),
        }
        self._seconds = {
            "send": seconds("messaging.client.operation.duration", "Time of a send, until the broker's confirmation."),
            "process": seconds("messaging.process.duration", "Time to handle a message."),
        }

        self.fallbacks = meter.create_counter(
            "kryonix.routing.fallbacks", "{fallback}", "Actions that went back from a model to the rules."
        )
        meter.create_observable_counter(
            "kryonix.routing.decisions", [_decided], "{message}", "Messages routed, by action and by who decided."
        )

    def record(self, operation: str, duration_s: float, attributes: Mapping[str, str | int]) -> None:
        self._counts[operation].add(1, attributes)
        self._seconds[operation].record(duration_s, attributes)


class Seldom:
    """A question to OpenTelemetry's API, asked every 0.1 s at most: each time it looks at the environment."""

    def __init__(self, ask: Callable[[], bool]) -> None:
        self._ask, self._until, self._answer = ask, 0.0, False

    def __call__(self) -> bool:
        now = time.monotonic()
        if now >= self._until:
            self._until, self._answer = now + _TRUSTED_S, self._ask()
        return self._answer


_has_no_provider = Seldom(lambda: type(metrics.get_meter_provider()).__module__.startswith("opentelemetry.metrics"))
_instruments = _default = Instruments(metrics.get_meter("kryonix.messaging", __version__))


def are_off() -> bool:
    """Return True without an OpenTelemetry SDK: the API alone has only providers that do nothing."""
    return _instruments is _default and _has_no_provider()


def record(operation: str, duration_s: float, attributes: Mapping[str, str | int]) -> None:
    """Count a message, and the duration of its operation, `send` or `process`."""
    _instruments.record(operation, duration_s, attributes)


def fell_back(action: str) -> None:
    """Count an action's fall back to the rules."""
    _instruments.fallbacks.add(1, {"kryonix.action": action})
