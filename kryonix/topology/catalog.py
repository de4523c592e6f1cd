"""The product catalog: modules with their actions, and plans."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from kryonix.topology.document import Model, as_tuple, parse, validated
from kryonix.topology.naming import PRIORITIES, Priority

MIB: Final = 1024 * 1024

_UNITS_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SIZES: Final = {"KiB": 1024, "MiB": MIB, "GiB": 1024 * MIB, "TiB": 1024 * 1024 * MIB}
_MODULE: Final = re.compile(r"[a-z][a-z0-9_]*")
_ACTION: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
_SUFFIXES: Final = (*PRIORITIES, "dlq", "retry", "dlx")


def _amount(text: Any, units: Mapping[str, int], noun: str, example: str) -> int:
    """Return a whole number with a unit as a number of the smallest. Raises ValueError for anything else."""
    match = re.fullmatch(rf"([1-9][0-9]{{0,8}})({'|'.join(units)})", text) if isinstance(text, str) else None
    if match is None:
        *others, last = units
        rule = f"a whole number above 0 and {', '.join(others)} or {last}, as in {example}"
        raise ValueError(f"{text!r} is not a valid {noun} ({rule})")
    return int(match.group(1)) * units[match.group(2)]


def duration_ms(text: Any) -> int:
    """Return a duration such as `24h` in ms. Raises ValueError for anything but a whole number and s, m, h or d."""
    return _amount(text, _UNITS_MS, "duration", "24h")


def duration_text(ms: int) -> str:
    """Return ms in the largest unit that divides them, as in 24h."""
    return next((f"{ms // size}{unit}" for unit, size in reversed(_UNITS_MS.items()) if ms % size == 0), f"{ms} ms")


Duration = Annotated[int, BeforeValidator(duration_ms)]
"""A duration in ms, written as `24h`."""


def size_text(number: int) -> str:
    """Return bytes in the largest unit that divides them, as in 16MiB; rounded up to whole MiB."""
    whole = -(-number // MIB) * MIB
    fitting = [unit for unit, size in _SIZES.items() if size >= MIB and whole % size == 0]
    return f"{whole // _SIZES[fitting[-1]]}{fitting[-1]}" if whole else "0MiB"


Size = Annotated[int, BeforeValidator(lambda text: _amount(text, _SIZES, "size", "16MiB"))]
"""A size in bytes, written as `16MiB`."""

Count = Annotated[int, Field(ge=1)]


class Module(Model):
    """One business module: a set of actions with one queue each."""

    actions: Annotated[tuple[str, ...], BeforeValidator(as_tuple), Field(min_length=1)]
    retention: Duration
    """How long a message waits for a consumer before it is a dead letter, ms."""
    priority_levels: Annotated[int, Field(ge=1, le=10)]
    default_priority: Annotated[int, Field(ge=0, le=10)] = 5
    """The priority of a message sent by the module's facade without one."""
    mobile_priority: bool
    mobile_expiry: Duration | None = None
    """How long a message from a mobile device is worth delivering, if shorter than the retention, ms."""
    ai_routing: bool
    business_critical: bool = False
    evolution_api: bool = False
    priority_lanes: dict[str, Annotated[tuple[Priority, ...], BeforeValidator(as_tuple)]] = Field(default_factory=dict)
    """Priorities with a queue of their own, by action."""

    @field_validator("actions")
    @classmethod
    def _usable_in_names(cls, actions: tuple[str, ...]) -> tuple[str, ...]:
        for action in actions:
            if not _ACTION.fullmatch(action):
                raise ValueError(
                    f"{action!r} is not a valid action name (lower-case words and dots, as in leads.create)"
                )
            if taken := set(action.split(".")) & set(_SUFFIXES):
                raise ValueError(f"{action!r} contains {taken.pop()!r}, a reserved suffix of queue names")
        if twice := {action for action in actions if actions.count(action) > 1}:
            raise ValueError(f"{min(twice)!r} is in the list twice. Keep one")
        return actions

    @model_validator(mode="after")
    def _lanes_have_actions(self) -> Module:
        for action, lanes in self.priority_lanes.items():
            if action not in self.actions:
                raise ValueError(f"priority_lanes names {action!r}, which is not an action of the module")
            if len(set(lanes)) != len(lanes) or len(lanes) == len(PRIORITIES):
                raise ValueError(f"priority_lanes of {action!r}: name one or two different priorities")
        return self


class Limits(Model):
    """A plan's limits. The broker enforces all but max_exchanges; the expansion checks that one."""

    max_connections: Count
    max_queues: Count
    max_exchanges: Count
    max_channels: Count


class Scaling(Model):
    """When and how far consumers scale, and the maximum depth of a queue (messages, and bytes of their bodies)."""

    max_consumers_per_queue: Count
    scale_up_threshold: Count
    scale_down_threshold: Count
    max_queue_depth: Count
    max_queue_bytes: Size = 64 * MIB
    """The default for older catalogs without this bound equals the package's largest plan."""


class Plan(Model):
    """A plan's limits and scaling figures."""

    limits: Limits
    scaling: Scaling


class RetrySettings(Model):
    """How failed messages are delivered again."""

    strategy: Literal["native", "queues"]
    first_delay: Duration
    max_delay: Duration
    limit: Annotated[int, Field(ge=1, le=20)]
    """Failures before the message is dead-lettered by the next one."""

    def delay(self, attempt: int) -> int:
        """Return the delay before redelivery after failure number `attempt`, counted from 1, ms."""
        return min(self.first_delay * attempt, self.max_delay)

    @model_validator(mode="after")
    def _ordered(self) -> RetrySettings:
        if self.max_delay < self.first_delay:
            raise ValueError(f"max_delay ({self.max_delay} ms) is below first_delay ({self.first_delay} ms)")
        return self


class Mobile(Model):
    """Limits of the queues of modules with mobile_priority; max_length in messages."""

    max_length: Count


class DeadLetters(Model):
    """Limits of a dead-letter queue: retention in ms, max_length in messages, max_bytes in bytes of their bodies."""

    retention: Duration
    max_length: Count
    max_bytes: Size = 16 * MIB


class Catalog(Model):
    """Everything for sale, and the rules common to all of it."""

    modules: Annotated[dict[str, Module], Field(min_length=1)]
    plans: Annotated[dict[str, Plan], Field(min_length=1)]
    retry: RetrySettings
    mobile: Mobile
    dead_letters: DeadLetters

    @field_validator("modules", "plans")
    @classmethod
    def _names(cls, named: dict[str, Any]) -> dict[str, Any]:
        for name in named:
            if not _MODULE.fullmatch(name):
                raise ValueError(f"{name!r} is not a valid module or plan name (lower-case letters, digits and _)")
        return named


def parse_catalog(content: bytes, file: str) -> Catalog:
    """Return a catalog from a file's content. Raises InvalidInput with every problem."""
    return validated(Catalog, parse(content, file))


@cache
def default_catalog() -> Catalog:
    """Return the catalog of the package."""
    resource = files(__package__) / "catalog.yaml"
    return parse_catalog(resource.read_bytes(), resource.name)
