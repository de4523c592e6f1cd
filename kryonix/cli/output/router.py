"""Models of routing, their training and their evaluation, as tables and JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kryonix.cli.output.tables import Column, responsive_table
from kryonix.registry.routing_models import RoutingModel
from kryonix.routing.forest import Forest
from kryonix.routing.health import Health
from kryonix.routing.known import FEATURES
from kryonix.routing.learned import Learned
from kryonix.routing.model import Model

if TYPE_CHECKING:  # they need LightGBM
    from kryonix.training.evaluation import Evaluation, Figure, LoadFigures
    from kryonix.training.training import ActionReport, Held

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
_HOPELESS: Final = math.log(1_000_000)
"""An error of logarithms whose factor is not shown."""


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
    return f"× {math.exp(error):.2f}" if error < _HOPELESS else f"over × {math.exp(_HOPELESS):,.0f}"


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
    return responsive_table(
        f"{len(refused)} action(s) left to the rules", _REFUSED_COLUMNS, sorted(refused.items()), console
    )


def training_report(report: Sequence[ActionReport], console: Console) -> list[Table | str]:
    """Return how the training of each action went: missed deadlines on held-out messages, and what was refused."""
    rows = [(action, held) for action in report for held in action.held]
    found: list[Table | str] = []
    if rows:
        found.append(responsive_table("missed deadlines on held-out messages", _HELD_COLUMNS, rows, console))
    if refused := {each.action: each.refused for each in report if each.refused is not None}:
        found.append(refused_table(refused, console))
    return found


def evaluation_report(evaluation: Evaluation, console: Console) -> list[Table | str]:
    """Return a table of each action, what really happened, and what was left out."""
    found: list[Table | str] = []
    for action in evaluation.actions:
        rows = [(each, way) for each in action.loads for way in each.ways]
        replayed = f"{action.replayed:,} of {action.messages:,} messages replayed"
        title = f"{action.action}: {replayed}, {action.servers} handler(s)"
        found.append(responsive_table(title, _WAY_COLUMNS, rows, console))
        found += [
            f"in reality, {_DECIDED[name]}: {_percent(logged.missed)} of {logged.messages:,} missed "
            f"({_percent(logged.low)} to {_percent(logged.high)})"
            for name, logged in action.logged.items()
        ]
        if action.overlaps:
            found.append("The model may have learned from these very messages: its figures flatter it.")
        if action.fallback_after is not None:
            found.append(escape(f"back to the rules after {action.fallback_after:,} messages: {action.fallback_why}"))
    if evaluation.left_out:
        found.append(refused_table(evaluation.left_out, console))
    return found


def tenants_report(tenants: Sequence[Mapping[str, Any]], console: Console) -> Table | str:
    """Return all tenants with a model or a say in it."""
    if not tenants:
        return "No tenant has a model. `kryonix router train --tenant ID --publish` makes one."
    return responsive_table(f"{len(tenants)} tenant(s)", _TENANT_COLUMNS, tenants, console)


def tenant_report(tenant: Mapping[str, Any], actions: Sequence[Health], console: Console) -> list[Table | str]:
    """Return one tenant, its models, and how the one in use does."""
    found: list[Table | str] = [tenants_report([tenant], console)]
    if tenant["models"]:
        found.append(responsive_table(f"{len(tenant['models'])} model(s)", _MODEL_COLUMNS, tenant["models"], console))
    if actions:
        found.append(responsive_table("the model on these outcomes", _HEALTH_COLUMNS, actions, console))
    return found


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f} %"


def _interval(figure: Figure) -> str:
    return f"{100 * figure.low:.2f} – {_percent(figure.high)}"


def _ratio(value: float, other: float) -> str:
    return f"{value / other:.2f}" if other else "" if value else "1.00"


def _ms(value: float) -> str:
    return f"{value / 1000:,.1f} s"


def _age(moment: datetime | None) -> str:
    if moment is None:
        return ""
    return f"{max((datetime.now(UTC) - moment).total_seconds(), 0) / 86_400:.1f} d"


def _in_use(tenant: Mapping[str, Any]) -> RoutingModel | None:
    return next((each for each in tenant["models"] if each.version == tenant["version"]), None)


def _mode(tenant: Mapping[str, Any]) -> str:
    return f"canary {tenant['canary']:g} %" if tenant["mode"] == "canary" else str(tenant["mode"])


_DECIDED: Final = {"learned": "decided by a model", "explored": "left to the rules"}
_HELD_COLUMNS: Final[tuple[Column[tuple[ActionReport, Held]], ...]] = (
    Column("action", lambda row: row[0].action, min_width=16),
    Column("messages", lambda row: row[0].messages, number=True, drop_priority=2),
    Column("load", lambda row: f"{row[1].load:g}", number=True),
    Column("rules", lambda row: _percent(row[1].rules), number=True),
    Column("tuned table", lambda row: _percent(row[1].table), number=True),
    Column("model", lambda row: _percent(row[1].model), number=True),
    Column("of the rules'", lambda row: _ratio(row[1].model, row[1].rules), number=True),
    Column("of the table's", lambda row: _ratio(row[1].model, row[1].table), number=True),
    Column("longest wait", lambda row: _ms(row[1].longest_model_ms), number=True, drop_priority=1),
)
_WAY_COLUMNS: Final[tuple[Column[tuple[LoadFigures, str]], ...]] = (
    Column("load", lambda row: f"{row[0].load:g}", number=True),
    Column("decided by", lambda row: row[1]),
    Column("missed", lambda row: _percent(row[0].ways[row[1]].missed), number=True),
    Column("95 % certain", lambda row: _interval(row[0].ways[row[1]]), number=True),
    Column(
        "of the rules'",
        lambda row: _ratio(row[0].ways[row[1]].missed, row[0].ways["rules"].missed),
        number=True,
        drop_priority=1,  # it follows from what is missed; the waits are the price
    ),
    Column("urgent p95", lambda row: _ms(row[0].ways[row[1]].urgent_p95_ms), number=True, drop_priority=3),
    Column("p99", lambda row: _ms(row[0].ways[row[1]].p99_ms), number=True, drop_priority=2),
    Column("longest", lambda row: _ms(row[0].ways[row[1]].longest_ms), number=True, drop_priority=4),
)
_TENANT_COLUMNS: Final[tuple[Column[Mapping[str, Any]], ...]] = (
    Column("tenant", lambda each: each["tenant"], min_width=16),
    Column("mode", _mode),
    Column("model", lambda each: each["version"] or ""),
    Column("age", lambda each: _age(used.made_at) if (used := _in_use(each)) else "", number=True),
    Column("messages", lambda each: used.messages if (used := _in_use(each)) else "", number=True),
    Column("models", lambda each: len(each["models"]), number=True, drop_priority=2),
    Column("shares", lambda each: "yes" if each["shares"] else "no", drop_priority=1),
    Column("access", lambda each: "yes" if each["access"] else "no", drop_priority=3),
)
_MODEL_COLUMNS: Final[tuple[Column[RoutingModel], ...]] = (
    Column("version", lambda each: each.version),
    Column("in use", lambda each: "yes" if each.in_use else ""),
    Column("age", lambda each: _age(each.made_at), number=True),
    Column("messages", lambda each: each.messages, number=True),
    Column("learned from", lambda each: ", ".join(each.made_of), min_width=12),
    Column("bytes", lambda each: each.bytes, number=True, drop_priority=1),
)
_HEALTH_COLUMNS: Final[tuple[Column[Health], ...]] = (
    Column("action", lambda each: each.action, min_width=16),
    Column("messages", lambda each: each.messages, number=True),
    Column("drift", lambda each: f"{max(each.drifts.values(), default=0):.2f}", number=True),
    Column(
        "error of time left", lambda each: _compared(each.error_left, each.usual.left), number=True, drop_priority=2
    ),
    Column("of handling time", lambda each: _compared(each.error_time, each.usual.time), number=True, drop_priority=1),
    Column("missed, model", lambda each: _percent(each.missed.get("learned")), number=True),
    Column("missed, rules", lambda each: _percent(each.missed.get("explored")), number=True),
    Column("problem", lambda each: each.problem or "", min_width=16),
)


def _compared(error: float | None, usual: float) -> str:
    return "" if error is None else f"{_factor(error)} ({_factor(usual)})"
