"""Alert rules: labels, annotations, runbooks, and that their metrics exist. promtool tests when they fire."""

from __future__ import annotations

import re
from typing import Any

import promql_parser
import pytest
import yaml

from tests.support.alerts import Alert, alerts, rules, selectors
from tests.support.project import ROOT
from tests.support.scrapes import recorded

ALERTS = alerts()
CASES = [
    case
    for file in sorted((ROOT / "tests/integration/monitoring/rules").glob("*.yaml"))
    for case in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]
]
RECORDING_RULES = {rule["record"] for _, rule in rules() if "record" in rule}
each_alert = pytest.mark.parametrize("alert", ALERTS, ids=[alert.name for alert in ALERTS])


def test_no_two_alerts_have_one_name() -> None:
    names = [alert.name for alert in ALERTS]
    assert len(names) >= 35
    assert len(set(names)) == len(names)


@each_alert
def test_an_alert_says_how_bad_what_and_where_to_read_on(alert: Alert) -> None:
    prefix = {"tenants.yaml": "Tenant", "broker.yaml": "Broker", "kryonix.yaml": "Kryonix"}[alert.file]
    assert alert.name.startswith(prefix)
    assert alert.labels.keys() - {"audience"} == {"severity"}
    assert alert.labels["severity"] in ("critical", "warning", "info")
    assert alert.annotations.keys() == {"summary", "description", "runbook"}
    assert alert.annotations["runbook"] == f"docs/runbooks.md#{alert.name.lower()}"


def test_a_tenant_gets_what_its_applications_can_change() -> None:
    theirs = {alert.name for alert in ALERTS if "audience" in alert.labels}
    assert {alert.labels["audience"] for alert in ALERTS if alert.name in theirs} == {"tenant"}
    assert theirs == {alert.name for alert in ALERTS if alert.file == "tenants.yaml"} - {
        "TenantSuspendedWithMessages",
        "TenantQueueWithoutLeader",
        "TenantVhostDown",
        "TenantOperationFailed",
        "TenantNotConverged",
        "TenantDrifted",
        "TenantBackupOld",
    }


def test_alerts_that_mute_others_and_those_muted_exist() -> None:
    config = yaml.safe_load((ROOT / "components/monitoring_files/alertmanager.yml").read_text(encoding="utf-8"))
    for rule in config["inhibit_rules"]:
        matchers = rule["source_matchers"] + rule["target_matchers"]
        named = [name for each in matchers for name in re.findall(r"(?<=[\"|])\w+(?=[\"|])", each) if name != "tenant"]
        assert named
        assert set(named) <= {alert.name for alert in ALERTS}, rule


def test_each_alert_has_a_runbook_section_and_each_section_an_alert() -> None:
    sections = re.findall(r"^## (\w+)$", (ROOT / "docs/runbooks.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sections == [
        alert.name for name in ("tenants", "broker", "kryonix") for alert in ALERTS if alert.file == f"{name}.yaml"
    ]


@each_alert
def test_an_alerts_metrics_and_labels_are_recorded(alert: Alert) -> None:
    for each in selectors(alert.expr):
        if each.metric not in RECORDING_RULES:
            assert each.metric in recorded(), f"{each.metric} is neither RabbitMQ 4.3.6's nor ours"
            assert set(each.labels) <= recorded()[each.metric], each


def test_a_recording_rules_metrics_are_recorded() -> None:
    read = {each.metric for _, rule in rules() if "record" in rule for each in selectors(rule["expr"])}
    assert read
    assert read <= recorded().keys()


def test_a_metric_that_does_not_exist_is_found() -> None:
    assert {
        each.metric for each in selectors("rate(rabbitmq_alarms_file_descriptor_limit[5m]) > 0")
    } - recorded().keys()


def groupings(expression: str) -> list[list[str]]:
    """Return the labels of each aggregation of an expression."""
    found: list[list[str]] = []

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.AggregateExpr):
            found.append(list(node.modifier.labels) if node.modifier else [])

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


@pytest.mark.parametrize("alert", [each for each in ALERTS if each.file == "tenants.yaml"], ids=lambda each: each.name)
def test_a_tenants_alert_aggregates_by_tenant_and_names_it(alert: Alert) -> None:
    assert all("cliente_id" in labels for labels in groupings(alert.expr))
    assert "$labels.cliente_id" in alert.annotations["summary"]
    tenants = any(each.metric.startswith("kryonix_") or "cliente_id" in each.labels for each in selectors(alert.expr))
    assert tenants or alert.name == "TenantWaitLong"  # only tenants have workers


def cases(alert: str) -> list[dict[str, Any]]:
    named = f'alertname="{alert}"'
    return [case for case in CASES if any(named in each["expr"] for each in case.get("promql_expr_test", ()))]


@each_alert
def test_promtool_sees_the_alert_silent_firing_and_resolved(alert: Alert) -> None:
    fires = [[bool(each["exp_samples"]) for each in case["promql_expr_test"]] for case in cases(alert.name)]
    assert any(any(case) and not case[0] and not case[-1] for case in fires)


@pytest.mark.parametrize("alert", [each for each in ALERTS if each.file == "tenants.yaml"], ids=lambda each: each.name)
def test_promtool_sees_two_tenants_with_the_same_queues(alert: Alert) -> None:
    case = cases(alert.name)[0]
    tenants = {
        match for series in case["input_series"] for match in re.findall(r'cliente_id="([^"]+)"', series["series"])
    }
    assert {"acme", "acme-2"} <= tenants
