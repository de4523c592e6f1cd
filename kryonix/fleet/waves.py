"""In which order a change reaches the fleet, and how many failures it may have on the way. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from kryonix.engines.errors import InvalidRollout
from kryonix.topology.errors import nearest

__all__ = ["Canary", "FailureBudget", "Placed", "Waves", "plan_waves", "spread"]

Waves = tuple[tuple[str, ...], ...]


class Placed(Protocol):
    """A tenant, and the cell it is in."""

    @property
    def cliente_id(self) -> str: ...
    @property
    def cell(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Canary:
    """Who goes first: so many tenants, or these. Where one of them fails, nobody else is touched."""

    count: int = 1
    named: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Canary:
        """From `3` or `acme,beta`. Raises InvalidRollout."""
        names = [name.strip() for name in text.split(",")]
        if len(names) == 1 and re.fullmatch(r"[0-9]{1,6}", names[0]):
            return cls(int(names[0]))
        if not all(names):
            raise InvalidRollout(f"--canary {text[:80]!r} is neither a number nor tenants. Write 2, or acme,beta")
        return cls(len(names), tuple(dict.fromkeys(names)))

    def choose(self, tenants: Sequence[str]) -> tuple[str, ...]:
        """The canaries among the tenants, in their order. Raises InvalidRollout where one that is named is missing."""
        if not self.named:
            return tuple(tenants[: self.count])
        if unknown := [name for name in self.named if name not in tenants]:
            raise InvalidRollout(
                f"--canary {unknown[0][:80]!r} is no tenant of the rollout; {_hint(unknown[0], tenants)}"
            )
        return self.named


@dataclass(frozen=True, slots=True)
class FailureBudget:
    """How many tenants may fail before the rollout stops: a number, or a part of all of them."""

    count: int = 0
    percent: float | None = None

    @classmethod
    def parse(cls, text: str) -> FailureBudget:
        """From `3` or `10%`. Raises InvalidRollout."""
        if re.fullmatch(r"[0-9]{1,6}", text):
            return cls(int(text))
        part = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,3})?)%", text)
        if part is None or float(part.group(1)) > 100:
            raise InvalidRollout(
                f"--failure-budget {text[:80]!r} is neither a number nor a percentage. Write 2, or 10%"
            )
        return cls(percent=float(part.group(1)))

    def allowed(self, tenants: int) -> int:
        """Failures among so many tenants that still let it go on; a percentage is rounded down."""
        return self.count if self.percent is None else int(tenants * self.percent / 100)

    def __str__(self) -> str:
        return str(self.count) if self.percent is None else f"{self.percent:g}%"


def spread(tenants: Iterable[Placed]) -> tuple[str, ...]:
    """The tenants' ids, one of each cell in turn: canaries try every cell, and waves load all of them alike."""
    seen: Counter[str] = Counter()
    ranked = []
    for tenant in sorted(tenants, key=lambda tenant: tenant.cliente_id):
        ranked.append((seen[tenant.cell], tenant.cell, tenant.cliente_id))
        seen[tenant.cell] += 1
    return tuple(name for _, _, name in sorted(ranked))


def plan_waves(tenants: Sequence[str], canary: Canary, wave_size: int) -> Waves:
    """Wave 0 is the canaries, and may be empty; then waves of `wave_size`, twice that, three times that, and so on.

    Raises InvalidRollout.
    """
    if wave_size < 1:
        raise InvalidRollout(f"--wave-size is {wave_size}; it has to be 1 or more")
    canaries = canary.choose(tenants)
    left = [name for name in tenants if name not in frozenset(canaries)]
    waves = [canaries]
    while left:
        size = wave_size * len(waves)
        waves.append(tuple(left[:size]))
        left = left[size:]
    return tuple(waves)


def _hint(name: str, tenants: Sequence[str]) -> str:
    return nearest(name, tenants) if len(tenants) <= 20 else f"there are {len(tenants)}"
