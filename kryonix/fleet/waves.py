"""Order of a rollout (canaries, then growing waves), and its failure budget. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kryonix.engines.errors import Refused
from kryonix.registry.desired_states import DesiredState
from kryonix.topology.errors import nearest

Waves = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The waves of a rollout, and the tenants that it leaves out, as their stacks have nothing to change."""

    waves: Waves
    unchanged: tuple[str, ...] = ()


class InvalidRollout(Refused):
    """The rollout's arguments are not valid, or there is no rollout to resume."""


@dataclass(frozen=True, slots=True)
class Canary:
    """The first tenants of a rollout, by number or by name. If one fails, no other tenant is changed."""

    count: int = 1
    named: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Canary:
        """Parse `3` or `acme,beta`. Raises InvalidRollout."""
        names = [name.strip() for name in text.split(",")]
        if len(names) == 1 and re.fullmatch(r"[0-9]{1,6}", names[0]):
            return cls(int(names[0]))
        if not all(names):
            raise InvalidRollout(f"--canary {text[:80]!r} is neither a number nor tenants. Write 2, or acme,beta")
        return cls(len(names), tuple(dict.fromkeys(names)))

    def choose(self, tenants: Sequence[str]) -> tuple[str, ...]:
        """Return the canaries among the tenants, in order. Raises InvalidRollout if a named one is missing."""
        if not self.named:
            return tuple(tenants[: self.count])
        if unknown := [name for name in self.named if name not in tenants]:
            raise InvalidRollout(
                f"--canary {unknown[0][:80]!r} is not a tenant of the rollout; {nearest(unknown[0], tenants)}"
            )
        return self.named


@dataclass(frozen=True, slots=True)
class FailureBudget:
    """The number or percentage of tenants that may fail before the rollout stops."""

    count: int = 0
    percent: float | None = None

    @classmethod
    def parse(cls, text: str) -> FailureBudget:
        """Parse `3` or `10%`. Raises InvalidRollout."""
        if re.fullmatch(r"[0-9]{1,6}", text):
            return cls(int(text))
        part = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,3})?)%", text)
        if part is None or float(part.group(1)) > 100:
            raise InvalidRollout(
                f"--failure-budget {text[:80]!r} is neither a number nor a percentage. Write 2, or 10%"
            )
        return cls(percent=float(part.group(1)))

    def allowed(self, tenants: int) -> int:
        """Return the number of failures that are tolerated; a percentage is rounded down."""
        return self.count if self.percent is None else int(tenants * self.percent / 100)

    def __str__(self) -> str:
        return str(self.count) if self.percent is None else f"{self.percent:g}%"


def spread(tenants: Iterable[DesiredState]) -> tuple[str, ...]:
    """Return the tenants' ids, alternating between cells: canaries reach every cell, and waves load them evenly."""
    seen: Counter[str] = Counter()
    ranked = []
    for tenant in sorted(tenants, key=lambda tenant: tenant.cliente_id):
        ranked.append((seen[tenant.cell], tenant.cell, tenant.cliente_id))
        seen[tenant.cell] += 1
    return tuple(name for _, _, name in sorted(ranked))


def plan_waves(tenants: Sequence[str], canary: Canary, wave_size: int) -> Waves:
    """Return the waves: the canaries (may be empty), then `wave_size` tenants, twice that, three times that, and so on.

    Raises InvalidRollout.
    """
    if wave_size < 1:
        raise InvalidRollout(f"--wave-size {wave_size} is not valid; it must be 1 or more")
    canaries = canary.choose(tenants)
    left = [name for name in tenants if name not in frozenset(canaries)]
    waves = [canaries]
    while left:
        size = wave_size * len(waves)
        waves.append(tuple(left[:size]))
        left = left[size:]
    return tuple(waves)
