"""The dashboards' files: current, valid by Grafana's format, and each panel explained."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from kryonix.monitoring.dashboards import ALL, TENANT
from kryonix.monitoring.dashboards.__main__ import FOLDER, write
from kryonix.monitoring.dashboards.grafana import DATASOURCE, WIDTH, Dashboard, Panel, Query, Row
from tests.support.alerts import selectors
from tests.support.monitored import substituted
from tests.support.project import ROOT
from tests.support.scrapes import recorded

EACH = pytest.mark.parametrize("dashboard", ALL, ids=lambda dashboard: dashboard.name)


BY_PROMETHEUS = {"ALERTS", "up", "scrape_duration_seconds", "scrape_samples_post_metric_relabeling"}
ALERT_LABELS = {"alertname", "alertstate", "severity", "cliente_id", "modulo", "acao", "job", "instance"}


def stored(dashboard: Dashboard) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((ROOT / FOLDER / dashboard.file).read_text())
    return loaded


def panels(dashboard: Dashboard) -> Iterator[dict[str, Any]]:
    return (panel for panel in stored(dashboard)["panels"] if panel["type"] != "row")


def panel(title: str, **more: Any) -> Panel:
    return Panel(title=title, description="d", queries=[Query(expr="up", name="n")], **more)


@EACH
def test_the_file_is_what_python_describes(dashboard: Dashboard) -> None:
    """If this fails, run `python -m kryonix.monitoring.dashboards`."""
    assert (ROOT / FOLDER / dashboard.file).read_text() == dashboard.text()


def test_there_is_no_other_file() -> None:
    assert {file.name for file in (ROOT / FOLDER).iterdir()} == {dashboard.file for dashboard in ALL}


def test_the_command_writes_every_file(tmp_path: Path) -> None:
    write(tmp_path / "new")
    assert {file.name: file.read_text() for file in (tmp_path / "new").iterdir()} == {
        dashboard.file: dashboard.text() for dashboard in ALL
    }


@EACH
def test_ids_are_unique_and_no_panels_overlap(dashboard: Dashboard) -> None:
    placed = stored(dashboard)["panels"]
    ids = [panel["id"] for panel in placed]
    assert len(set(ids)) == len(ids)
    for at in (panel["gridPos"] for panel in placed):
        assert 0 <= at["x"] < at["x"] + at["w"] <= WIDTH
    for one, other in combinations((panel["gridPos"] for panel in placed), 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]


@EACH
def test_every_panel_has_a_unit_a_description_and_the_datasource(dashboard: Dashboard) -> None:
    for panel in panels(dashboard):
        assert re.fullmatch(r"[A-Z].{10,}[.]", panel["description"]), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"] == DATASOURCE
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs) >= 1
        assert all(target["datasource"] == DATASOURCE and target["expr"] for target in panel["targets"])


@EACH
def test_every_variable_of_a_query_is_a_choice_at_the_top(dashboard: Dashboard) -> None:
    made = stored(dashboard)
    names = {variable["name"] for variable in made["templating"]["list"]}
    assert names >= set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(made["panels"])))
    assert names >= set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(made["templating"])))


@EACH
def test_every_query_reads_metrics_and_labels_that_exist(dashboard: Dashboard) -> None:
    for shown in dashboard.panels():
        for query in shown.queries:
            read = selectors(substituted(query.expr, {"cliente_id": "acme", "modulo": "crm", "instance": "x"}, "1m"))
            assert read, query.expr
            unknown = [each.metric for each in read if each.metric not in BY_PROMETHEUS | recorded().keys()]
            assert unknown == [], query.expr
            for each in read:
                labels = recorded().get(each.metric, frozenset({*each.labels} & ALERT_LABELS))
                assert labels >= set(each.labels), f"{each.metric} has no label {set(each.labels) - labels}"


def test_dashboards_have_addresses_of_their_own() -> None:
    assert len({dashboard.uid for dashboard in ALL}) == len({dashboard.title for dashboard in ALL}) == len(ALL)


def test_every_query_about_a_tenant_is_limited_to_that_tenant() -> None:
    for shown in TENANT.panels():
        for query in shown.queries:
            selectors = re.findall(r"\w+\{([^}]*)\}", query.expr)
            assert selectors, query.expr
            assert all('cliente_id="$cliente_id"' in selector for selector in selectors), query.expr


def test_panels_go_on_a_new_line_when_the_width_is_used() -> None:
    row = Row(title="r", panels=[panel("a", width=16), panel("b", width=8, height=4), panel("c", width=12)])
    made = Dashboard(name="n", title="t", description="d", rows=[row, row]).json()["panels"]
    places = [tuple(each["gridPos"][side] for side in "xywh") for each in made]
    assert places[:4] == [(0, 0, 24, 1), (0, 1, 16, 8), (16, 1, 8, 4), (0, 9, 12, 8)]
    assert places[4] == (0, 17, 24, 1)


def test_a_limit_is_a_dashed_line() -> None:
    queries = [Query(expr="up", name="open"), Query(expr="up", name="limit", limit=True)]
    (override,) = Panel(title="t", description="d", queries=queries).json(1, 0, 0)["fieldConfig"]["overrides"]
    assert override["matcher"] == {"id": "byFrameRefID", "options": "B"}
    assert {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [10, 10]}} in override["properties"]


def test_a_table_joins_its_queries_and_hides_those_without_a_name() -> None:
    queries = [Query(expr="info", name=""), Query(expr="up", name="Up")]
    made = Panel(title="t", description="d", kind="table", columns=["job=Job"], queries=queries).json(1, 0, 0)
    merge, organize = made["transformations"]
    assert merge["id"] == "merge"
    assert organize["options"]["renameByName"] == {"job": "Job", "Value #B": "Up"}
    assert organize["options"]["excludeByName"] == {"Time": True, "Value #A": True}
    assert all(target["format"] == "table" and target["instant"] for target in made["targets"])
