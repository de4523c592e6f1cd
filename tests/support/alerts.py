"""The rules of the platform's Prometheus, and what their expressions read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import promql_parser
import yaml

from tests.support.project import ROOT

RULES: Final = ROOT / "components/monitoring_files/rules"


@dataclass(frozen=True, slots=True)
class Selector:
    """A metric that an expression reads, and the labels that it matches."""

    metric: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert of a rule file."""

    file: str
    name: str
    expr: str
    labels: dict[str, str]
    annotations: dict[str, str]


def rules() -> Iterator[tuple[str, dict[str, Any]]]:
    """Return every rule and the name of its file."""
    for path in sorted(RULES.glob("*.yaml")):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            yield from ((path.name, rule) for rule in group["rules"])


def alerts() -> list[Alert]:
    """Return every alert."""
    return [
        Alert(file, rule["alert"], rule["expr"], rule["labels"], rule["annotations"])
        for file, rule in rules()
        if "alert" in rule
    ]


def selectors(expression: str) -> list[Selector]:
    """Return what an expression of PromQL reads. Raises ValueError if it is not one."""
    found: list[Selector] = []

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(Selector(node.name or "", tuple(each.name for each in node.matchers.matchers)))

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found
