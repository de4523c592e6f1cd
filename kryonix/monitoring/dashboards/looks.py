"""How each kind of panel looks: units, thresholds' colours and Grafana's options."""

from __future__ import annotations

from typing import Any, Final, Literal

Json = dict[str, Any]
Kind = Literal["timeseries", "state-timeline", "stat", "gauge", "bargauge", "table"]
Unit = Literal["short", "none", "percentunit", "s", "bytes", "Bps", "mps", "cps", "reqps", "bool_yes_no"]
"""Grafana's names. `mps` is messages and `cps` anything per second, `percentunit` a share of 1."""

_LAST: Final[Json] = {"calcs": ["lastNotNull"], "fields": "", "values": False}

OPTIONS: Final[dict[Kind, Json]] = {
    "timeseries": {
        "legend": {
            "calcs": ["lastNotNull", "max"],
            "displayMode": "table",
            "placement": "bottom",
            "showLegend": True,
            "sortBy": "Max",
            "sortDesc": True,
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "state-timeline": {
        "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": False},
        "mergeValues": True,
        "rowHeight": 0.8,
        "showValue": "never",
        "tooltip": {"mode": "single", "sort": "none"},
    },
    "stat": {
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "auto",
        "orientation": "auto",
        "reduceOptions": _LAST,
        "textMode": "value",
        "wideLayout": True,
    },
    "gauge": {
        "orientation": "auto",
        "reduceOptions": _LAST,
        "showThresholdLabels": False,
        "showThresholdMarkers": True,
        "sizing": "auto",
    },
    "bargauge": {
        "displayMode": "basic",
        "orientation": "horizontal",
        "reduceOptions": _LAST,
        "showUnfilled": True,
        "sizing": "auto",
        "valueMode": "color",
    },
    "table": {"cellHeight": "sm", "showHeader": True, "sortBy": []},
}

_LINE: Final[Json] = {
    "drawStyle": "line",
    "fillOpacity": 8,
    "lineWidth": 1,
    "showPoints": "never",
    "spanNulls": False,
    "thresholdsStyle": {"mode": "off"},
}


_UP_OR_DOWN: Final[list[Json]] = [
    {
        "type": "value",
        "options": {
            "0": {"text": "No", "color": "red", "index": 0},
            "1": {"text": "Yes", "color": "green", "index": 1},
        },
    }
]


def looks(kind: Kind, unit: Unit, *, stacked: bool, log: bool) -> Json:
    """Return the defaults of a panel's fields."""
    if kind == "table":
        return {"unit": unit, "custom": {"align": "auto", "cellOptions": {"type": "auto"}}}
    if kind == "state-timeline":
        return {"unit": unit, "color": {"mode": "thresholds"}, "mappings": _UP_OR_DOWN, "custom": {"fillOpacity": 70}}
    made: Json = {"unit": unit, "min": 0, "color": {"mode": "thresholds"}}
    if kind == "timeseries":
        stacking = {"mode": "normal" if stacked else "none", "group": "A"}
        made |= {"color": {"mode": "palette-classic"}, "custom": {**_LINE, "stacking": stacking}}
    if log:  # symlog shows 0, too
        made["custom"]["scaleDistribution"] = {"type": "symlog", "log": 10, "linearThreshold": 1}
    return made


def steps(warn: float | None, alarm: float | None) -> list[Json]:
    """Return the thresholds' colours, the lowest first."""
    above = [("yellow", warn), ("red", alarm)]
    return [{"color": "green", "value": None}] + [
        {"color": color, "value": value} for color, value in above if value is not None
    ]
