"""Grafana's dashboard format (12), as far as these dashboards use it. Ids and positions follow from the order."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from kryonix.monitoring.dashboards.looks import OPTIONS, Json, Kind, Unit, looks, steps

DATASOURCE: Final[Json] = {"type": "prometheus", "uid": "${datasource}"}
SCHEMA_VERSION: Final = 41
WIDTH: Final = 24
"""Columns of a dashboard."""

_BUILT_IN: Final[Json] = {
    "builtIn": 1,
    "datasource": {"type": "grafana", "uid": "-- Grafana --"},
    "enable": True,
    "hide": True,
    "iconColor": "rgba(0, 211, 255, 1)",
    "name": "Annotations & Alerts",
    "type": "dashboard",
}


@dataclass(frozen=True, kw_only=True)
class Query:
    """A PromQL query. `name` is its legend, or its column in a table."""

    expr: str
    name: str
    limit: bool = False
    """True: drawn as a dashed red line."""
    unit: Unit | None = None
    """Unit of a table's column."""
    may_be_empty: bool = False
    """True: no result is a good sign, such as no firing alert."""

    def json(self, ref: str, *, table: bool, instant: bool) -> Json:
        target: Json = {"datasource": DATASOURCE, "editorMode": "code", "expr": self.expr, "refId": ref}
        if table:
            return {**target, "format": "table", "instant": True, "range": False}
        return {**target, "legendFormat": self.name, "instant": instant, "range": not instant}


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A panel. Its description says what the figures mean and when to act."""

    title: str
    description: str
    kind: Kind = "timeseries"
    unit: Unit = "short"
    queries: Sequence[Query]
    width: int = 12
    height: int = 8
    warn: float | None = None
    """Yellow from here on."""
    alarm: float | None = None
    """Red from here on."""
    top: float | None = None
    """The end of the scale."""
    stacked: bool = False
    log: bool = False
    """True: a logarithmic scale, for a value far below its limit."""
    columns: Sequence[str] = ()
    """A table's columns that are labels: `label=Title`."""
    link: str = ""
    """A table's first column leads here."""
    sort: str = ""
    """A table's column by which it is sorted, the largest first."""

    def refs(self) -> Iterator[tuple[str, Query]]:
        return zip("ABCDEFGHIJ", self.queries, strict=False)

    def json(self, number: int, x: int, y: int) -> Json:
        table, instant = self.kind == "table", self.kind in ("table", "bargauge", "gauge")
        made: Json = {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": DATASOURCE,
            "gridPos": {"h": self.height, "w": self.width, "x": x, "y": y},
            "fieldConfig": {"defaults": self._defaults(), "overrides": list(self._overrides())},
            "options": self._options(),
            "targets": [query.json(ref, table=table, instant=instant) for ref, query in self.refs()],
        }
        return {**made, "transformations": self._transformations()} if table else made

    def _options(self) -> Json:
        sort = {"sortBy": [{"displayName": self.sort, "desc": True}]} if self.sort else {}
        return {**OPTIONS[self.kind], **sort}

    def _defaults(self) -> Json:
        made = looks(self.kind, self.unit, stacked=self.stacked, log=self.log)
        made["thresholds"] = {"mode": "absolute", "steps": steps(self.warn, self.alarm)}
        return made if self.top is None else {**made, "max": self.top}

    def _overrides(self) -> Iterator[Json]:
        for ref, query in self.refs():
            if query.limit:
                dashes = {"fill": "dash", "dash": [10, 10]}
                yield _override(
                    "byFrameRefID",
                    ref,
                    {"color": {"mode": "fixed", "fixedColor": "red"}, "custom.lineStyle": dashes}
                    | {"custom.fillOpacity": 0, "custom.stacking": {"mode": "none", "group": "A"}},
                )
            if self.kind == "table":
                shared = {"custom.cellOptions": {"type": "gauge", "mode": "basic"}, "min": 0, "max": 1}
                bar = shared if query.unit == "percentunit" else {}
                yield _override("byName", query.name, {"unit": query.unit or "short"} | bar)
        if self.link:
            links = [{"title": "Open this tenant", "url": self.link, "targetBlank": False}]
            yield _override("byName", self._labels()[0][1], {"links": links})

    def _labels(self) -> list[tuple[str, str]]:
        return [(label, title) for label, _, title in (each.partition("=") for each in self.columns)]

    def _transformations(self) -> list[Json]:
        """Join the queries' rows by their labels, and name and order the columns."""
        alone = len(self.queries) == 1
        values = {"Value" if alone else f"Value #{ref}": query.name for ref, query in self.refs()}
        names = dict(self._labels()) | {value: name for value, name in values.items() if name}
        hidden = {"Time": True} | {value: True for value, name in values.items() if not name}
        order = {name: at for at, name in enumerate(names)}
        return [
            {"id": "merge", "options": {}},
            {"id": "organize", "options": {"excludeByName": hidden, "indexByName": order, "renameByName": names}},
        ]


@dataclass(frozen=True, kw_only=True)
class Variable:
    """A choice at the top of the dashboard: the values of a label."""

    name: str
    label: str
    query: str
    several: bool = False

    def json(self) -> Json:
        made: Json = {
            "name": self.name,
            "label": self.label,
            "type": "query",
            "datasource": DATASOURCE,
            "definition": self.query,
            "query": {"qryType": 1, "query": self.query, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
            "refresh": 2,
            "sort": 1,
            "regex": "",
            "hide": 0,
            "options": [],
            "current": {},
            "includeAll": self.several,
            "multi": self.several,
        }
        every = {"allValue": ".+", "current": {"text": "All", "value": "$__all"}}
        return {**made, **every} if self.several else made


@dataclass(frozen=True, kw_only=True)
class Row:
    """Panels under a heading, from left to right."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """A dashboard. `name` is in its address and in its file's name."""

    name: str
    title: str
    description: str
    variables: Sequence[Variable] = ()
    alerts: str = ""
    """A query of firing alerts, marked in every graph over time."""
    rows: Sequence[Row]

    @property
    def uid(self) -> str:
        return f"kryonix-{self.name}"

    @property
    def file(self) -> str:
        return f"{self.name}.json"

    def panels(self) -> Iterator[Panel]:
        for row in self.rows:
            yield from row.panels

    def text(self) -> str:
        """Return the file's content."""
        return json.dumps(self.json(), indent=2, ensure_ascii=False) + "\n"

    def json(self) -> Json:
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["kryonix"],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": False,
            "preload": False,
            "graphTooltip": 1,
            "fiscalYearStartMonth": 0,
            "timezone": "browser",
            "time": {"from": "now-6h", "to": "now"},
            "timepicker": {},
            "refresh": "30s",
            "links": [_dashboards_link()],
            "templating": {"list": [_datasource_variable(), *(variable.json() for variable in self.variables)]},
            "annotations": {"list": [_BUILT_IN, *self._annotations()]},
            "panels": list(self._placed()),
        }

    def _annotations(self) -> Iterator[Json]:
        if self.alerts:
            yield {
                "name": "Firing alerts",
                "datasource": DATASOURCE,
                "enable": True,
                "hide": False,
                "iconColor": "red",
                "expr": self.alerts,
                "step": "60s",
                "titleFormat": "{{alertname}}",
                "textFormat": "{{modulo}} {{acao}}",
            }

    def _placed(self) -> Iterator[Json]:
        """Place each row's panels from left to right, and on a new line when the width is used."""
        number, y = 0, 0
        for row in self.rows:
            number += 1
            place = {"h": 1, "w": WIDTH, "x": 0, "y": y}
            yield {"id": number, "type": "row", "title": row.title, "collapsed": False, "gridPos": place, "panels": []}
            x, y, below = 0, y + 1, y + 1
            for panel in row.panels:
                if x + panel.width > WIDTH:
                    x, y = 0, below
                number += 1
                yield panel.json(number, x, y)
                x, below = x + panel.width, max(below, y + panel.height)
            y = below


def _override(matcher: Literal["byName", "byFrameRefID"], of: str, properties: dict[str, Any]) -> Json:
    return {
        "matcher": {"id": matcher, "options": of},
        "properties": [{"id": name, "value": value} for name, value in properties.items()],
    }


def _datasource_variable() -> Json:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "regex": "",
        "refresh": 1,
        "hide": 0,
        "options": [],
        "current": {},
        "includeAll": False,
        "multi": False,
    }


def _dashboards_link() -> Json:
    return {
        "title": "Kryonix",
        "type": "dashboards",
        "tags": ["kryonix"],
        "asDropdown": False,
        "includeVars": False,
        "keepTime": True,
        "targetBlank": False,
        "icon": "external link",
        "tooltip": "",
        "url": "",
    }
