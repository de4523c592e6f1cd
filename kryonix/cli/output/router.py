"""Models of routing, their training and their evaluation, as tables and JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kryonix.cli.output.tables import Column, responsive_table
from kryonix.routing.forest import Forest
from kryonix.routing.known import FEATURES
from kryonix.routing.learned import Learned
from kryonix.routing.model import Model

_ACTION_COLUMNS: Final[tuple[Column[tuple[str, Learned]], ...]] = (
    Column("action", lambda each: each[0], min_width=16),
    Column("messages", lambda each: each[1].messages, number=True),
    Column("kinds", lambda each: len(each[1].shapes), number=True, drop_priority=3),
    Column("error of time left", lambda each: _factor(each[1].errors.left), number=True),
    Column("of handling time", lambda each: _factor(each[1].errors.time), number=True),
    Column("looks at", lambda each: _looks_at(each[1]), min_width=20, drop_priority=1),
    Column("compression", lambda each: "" if each[1].saving is None else "learned", drop_priority=2),
)
_REFUSED_COLUMNS: Final[tuple[Column[tuple[str, str]], ...]] = (
    Column("action left to the rules", lambda each: each[0], min_width=16),
    Column("why", lambda each: each[1], min_width=20),
)
_NAMED: Final = 3


def model_json(model: Model) -> dict[str, Any]:
    """Return what a model is, without its trees."""
    return {
        "version": model.version,
        "made_at": model.made_at,
        "from_at": model.from_at,
        "until_at": model.until_at,
        "messages": model.messages,
        "explore": model.explore,
        "tenants": list(model.tenants),
        "actions": {name: _learned_json(learned) for name, learned in model.actions.items()},
        "refused": dict(model.refused),
    }


def _learned_json(learned: Learned) -> dict[str, Any]:
    forests = {"time": learned.time, "left": learned.left, "saving": learned.saving}
    last = learned.policy.last
    return {
        "messages": learned.messages,
        "shapes": len(learned.shapes),
        "trees": {name: len(forest.trees) for name, forest in forests.items() if forest is not None},
        "features": _features(learned),
        "errors": learned.errors,
        "index": learned.policy.index,
        "levels": list(learned.policy.levels),
        "last": None if last is None else {"index": last.index, "above": last.above},
        "held_out": dict(learned.held_out),
    }


def _features(learned: Learned) -> dict[str, float]:
    """Return the share of the trees' questions that are about each feature, the most frequent first."""
    forests: list[Forest] = [learned.time, learned.left]
    asked = Counter(feature for forest in forests for tree in forest.trees for feature in tree.features)
    return {FEATURES[feature]: round(count / asked.total(), 3) for feature, count in asked.most_common()}


def _looks_at(learned: Learned) -> str:
    shares: Counter[str] = Counter()
    for name, share in _features(learned).items():
        shares[name.partition(":")[0]] += round(100 * share)
    return ", ".join(f"{name} {share} %" for name, share in shares.most_common(_NAMED))


def _factor(error: float) -> str:
    """Return an error of logarithms as a factor."""
    return f"× {math.exp(error):.2f}"


def model_report(model: Model, console: Console) -> list[Table | str]:
    """Return a model's head, its actions and those it leaves to the rules."""
    head = (
        f"model {model.version}, made {model.made_at:%Y-%m-%d %H:%M}, learned from {model.messages:,} messages "
        f"of {model.from_at:%Y-%m-%d %H:%M} to {model.until_at:%Y-%m-%d %H:%M}"
    )
    whose = f" of {', '.join(model.tenants)}" if model.tenants else ""
    share = f"{100 * model.explore:g} % of the messages stay where the rules put them."
    found: list[Table | str] = [escape(f"{head}{whose}. {share}")]
    if model.actions:
        title = f"{len(model.actions)} action(s) with a model"
        found.append(responsive_table(title, _ACTION_COLUMNS, sorted(model.actions.items()), console))
    if model.refused:
        found.append(refused_table(model.refused, console))
    return found


def refused_table(refused: Mapping[str, str], console: Console) -> Table:
    return responsive_table(f"{len(refused)} left to the rules", _REFUSED_COLUMNS, sorted(refused.items()), console)
