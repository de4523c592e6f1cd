"""Monitoring: what its containers are given, and which values of its config are refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bcrypt
import pulumi
import pulumi_docker as docker
import pytest
import yaml

from components.alertmanager import base_config
from components.errors import InvalidStack
from components.monitoring import Monitoring, MonitoringArgs
from components.monitoring_settings import MonitoringSettings
from kryonix.engines.deployments import SIGNATURE
from tests.support.mocked import Recorder, registered
from tests.support.platform_settings import platform_settings

FILES = Path(__file__).parents[3] / "components" / "monitoring_files"
CONTAINER = "docker:index/container:Container"
SECRET = "the broker's own"


def settings(**given: Any) -> MonitoringSettings:
    images = {"prometheus_image": "prom/prometheus:v3.5.3", "alertmanager_image": "prom/alertmanager:v0.33.1"}
    return MonitoringSettings(**{**images, **given})


def made(**given: Any) -> Recorder:
    """The registrations of a platform's monitoring."""
    signup, brokers = given.pop("signup", False), given.pop("brokers", ("rabbitmq:15692",))
    trust = given.pop("trust", None)

    def program() -> None:
        args = MonitoringArgs(
            settings=settings(**given),
            advertised_host="kryonix.example",
            broker_network=docker.Network("broker", name="broker-net"),
            brokers=brokers,
            metrics_password=pulumi.Output.secret(SECRET),
            signup=signup,
            trust=trust,
        )
        outputs = Monitoring("monitoring", args).outputs
        pulumi.export("keys", sorted(outputs))
        for name, value in outputs.items():
            pulumi.export(name, value)

    return registered(program)


def container(recorder: Recorder, role: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = plain(recorder.of(CONTAINER)[f"monitoring-{role}-container"])
    return found


def plain(value: Any) -> Any:
    """Return a value without the marks of secrets."""
    if isinstance(value, Mapping):
        return plain(value["value"]) if SIGNATURE in value else {key: plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list) else value


def files(inputs: Mapping[str, Any]) -> dict[str, str]:
    """Return a container's uploads by path."""
    return {upload["file"]: upload["content"] for upload in inputs["uploads"]}


def test_prometheus_scrapes_every_node() -> None:
    uploaded = files(container(made(brokers=("rabbitmq-1:15692", "10.0.0.2:9419")), "prometheus"))
    jobs = yaml.safe_load(uploaded["/etc/prometheus/prometheus.yml"])["scrape_configs"]
    of_brokers = [job["static_configs"] for job in jobs if ":15692" in str(job.get("static_configs"))]
    assert len(of_brokers) >= 3
    assert {str(configs) for configs in of_brokers} == {str([{"targets": ["rabbitmq-1:15692", "10.0.0.2:9419"]}])}


def test_prometheus_scrapes_over_tls_where_the_broker_has_it() -> None:
    brokers = ("rabbitmq-1:15691", "rabbitmq-2:15691")
    uploaded = files(container(made(trust="the CA", brokers=brokers, signup=True), "prometheus"))
    assert uploaded["/etc/prometheus/ca.pem"] == "the CA"
    jobs = yaml.safe_load(uploaded["/etc/prometheus/prometheus.yml"])["scrape_configs"]
    encrypted = {job["job_name"]: job for job in jobs if job.get("scheme") == "https"}
    of_broker = {"kryonix-broker", "kryonix-tenants", "kryonix-tenant-bytes"}
    assert encrypted.keys() == of_broker | {"kryonix-signup"}
    for name, job in encrypted.items():
        assert job["tls_config"] == {"ca_file": "/etc/prometheus/ca.pem", "min_version": "TLS12"}
        if name in of_broker:
            assert job["static_configs"] == [{"targets": list(brokers)}]
    assert ":15692" not in uploaded["/etc/prometheus/prometheus.yml"]


def test_prometheus_gets_its_files_and_the_networks_of_its_targets() -> None:
    prometheus = container(made(worker_targets=("w1.example:9421",), retention="30d", signup=True), "prometheus")
    uploaded = files(prometheus)
    assert uploaded["/etc/prometheus/prometheus.yml"] == (FILES / "prometheus.yml").read_text()
    rules = {f"/etc/prometheus/rules/{file.name}" for file in FILES.glob("rules/*.yaml")}
    assert rules <= set(uploaded)
    assert json.loads(uploaded["/etc/prometheus/workers.json"]) == [{"targets": ["w1.example:9421"]}]
    assert json.loads(uploaded["/etc/prometheus/signup.json"]) == [{"targets": ["web:8080"]}]
    assert uploaded["/etc/prometheus/metrics_password"] == SECRET
    networks = {joined["name"]: joined["aliases"] for joined in prometheus["networksAdvanced"]}
    assert networks == {"kryonix-dev-monitoring-network": ["prometheus"], "broker-net": ["prometheus"]}
    assert "--storage.tsdb.retention.time=30d" in prometheus["command"]


def test_no_workers_and_no_signup_service_are_no_targets() -> None:
    uploaded = files(container(made(), "prometheus"))
    assert [json.loads(uploaded[f"/etc/prometheus/{name}.json"]) for name in ("workers", "signup")] == [[], []]


@pytest.mark.parametrize("role", ["prometheus", "alertmanager", "grafana"])
def test_a_server_may_do_nothing_and_shows_no_secret(role: str) -> None:
    inputs = container(made(grafana_image="grafana/grafana:12.3.0", smtp_host="mail:25", smtp_from="k@b.example"), role)
    assert inputs["capabilities"] == {"drops": ["ALL"]}
    assert inputs["securityOpts"] == ["no-new-privileges"]
    assert inputs["user"].split(":")[0] not in ("", "0", "root")
    assert [port["ip"] for port in inputs["ports"]] == ["127.0.0.1"]
    shown = json.dumps({key: value for key, value in inputs.items() if key != "uploads"})
    assert "'s secret" in json.dumps(inputs["uploads"]), "the login"
    assert "'s secret" not in shown
    assert SECRET not in shown


def test_servers_on_loopback_require_no_login() -> None:
    recorder = made()
    for role in ("prometheus", "alertmanager"):
        assert not any("web.config" in option for option in container(recorder, role)["command"])
        assert not any(file.endswith("/web.yml") for file in files(container(recorder, role)))


def test_servers_beyond_loopback_require_the_login_that_they_send() -> None:
    first, second = made(address="0.0.0.0"), made(address="0.0.0.0")
    config = yaml.safe_load((FILES / "prometheus.yml").read_text())
    for role in ("prometheus", "alertmanager"):
        assert f"--web.config.file=/etc/{role}/web.yml" in container(first, role)["command"]
        uploaded = files(container(first, role))
        ((user, hashed),) = yaml.safe_load(uploaded[f"/etc/{role}/web.yml"])["basic_auth_users"].items()
        assert user == config["alerting"]["alertmanagers"][0]["basic_auth"]["username"]
        assert bcrypt.checkpw(uploaded[f"/etc/{role}/monitoring_password"].encode(), hashed.encode())
        assert files(container(second, role)) == uploaded, "a second run changes nothing"


def test_the_exporter_finds_alertmanagers_config_in_a_volume() -> None:
    recorder = made()
    mounted = {each["containerPath"]: each["volumeName"] for each in container(recorder, "alertmanager")["volumes"]}
    assert mounted["/etc/alertmanager"] == "kryonix-dev-alertmanager-config"
    uploaded = files(container(recorder, "alertmanager"))
    assert uploaded["/etc/alertmanager/base.yml"] == uploaded["/etc/alertmanager/alertmanager.yml"]


def test_grafana_runs_where_its_image_is_named() -> None:
    assert set(made().of(CONTAINER)) == {"monitoring-prometheus-container", "monitoring-alertmanager-container"}
    uploaded = files(container(made(grafana_image="grafana/grafana:12.3.0"), "grafana"))
    (source,) = yaml.safe_load(uploaded["/etc/grafana/provisioning/datasources/kryonix.yaml"])["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert source["secureJsonData"] == {"basicAuthPassword": "$__file{/etc/grafana/monitoring_password}"}
    dashboards = {name.rpartition("/")[2] for name in uploaded if name.startswith("/etc/grafana/dashboards/")}
    assert dashboards == {file.name for file in FILES.glob("dashboards/*.json")}
    assert dashboards


def test_operators_are_notified_where_the_config_says() -> None:
    plain = yaml.safe_load(base_config(settings()))
    assert plain == yaml.safe_load((FILES / "alertmanager.yml").read_text())
    mail = {"smtp_host": "mail:587", "smtp_from": "k@b.example", "smtp_username": "k", "smtp_password": "p"}
    base = yaml.safe_load(base_config(settings(alert_webhook="https://ops.example/hook", **mail)))
    (operators,) = base["receivers"]
    assert operators["webhook_configs"] == [{"url": "https://ops.example/hook", "send_resolved": True}]
    assert base["route"]["receiver"] == operators["name"]
    assert base["global"] == {
        "smtp_smarthost": "mail:587",
        "smtp_from": "k@b.example",
        "smtp_require_tls": True,
        "smtp_auth_username": "k",
        "smtp_auth_password": "p",
    }


@pytest.mark.parametrize("retention", ["15d", "2w", "1y", "1d12h", "90m", "292y"])
def test_a_duration_of_prometheus_is_accepted(retention: str) -> None:
    assert settings(retention=retention).problems() == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"retention": "15 days"}, "kryonix:metricsRetention: '15 days' is not a duration"),
        ({"retention": "0d"}, "kryonix:metricsRetention: '0d'"),
        ({"retention": ""}, "kryonix:metricsRetention: ''"),
        ({"retention": "300y"}, "kryonix:metricsRetention: '300y'"),
        ({"retention": "1" * 30 + "s"}, "kryonix:metricsRetention: '111"),
        ({"worker_targets": ("w1",)}, "kryonix:workerTargets: 'w1' is not host:port"),
        ({"worker_targets": ("w1:70000",)}, "kryonix:workerTargets: 'w1:70000'"),
        ({"worker_targets": (9421,)}, "kryonix:workerTargets: 9421"),
        ({"alert_webhook": "ops.example/token"}, "kryonix:alertWebhook: not a valid URL"),
        ({"alert_webhook": "https://ops.example:port/token"}, "kryonix:alertWebhook: not a valid URL"),
        ({"alert_webhook": "https://ops.example/token%zz"}, "kryonix:alertWebhook: not a valid URL"),
        ({"alert_webhook": "https://ops.example/token\0"}, "kryonix:alertWebhook: not a valid URL"),
        ({"alert_webhook": "https://ops.example/{{token"}, "kryonix:alertWebhook: not a valid URL"),
        ({"alert_webhook": "https://ops%41.example/token"}, "kryonix:alertWebhook: not a valid URL"),
        ({"smtp_host": "mail", "smtp_from": "k@b.example"}, "kryonix:smtpHost: 'mail' is not host:port"),
        ({"smtp_host": "mail:25", "smtp_from": "nobody"}, "kryonix:smtpFrom: 'nobody' is not an e-mail address"),
        ({"smtp_host": "mail:25", "smtp_from": "a\nb <k@b.example>"}, "kryonix:smtpFrom: 'a\\nb <k@b.example>'"),
        ({"smtp_host": "mail:25"}, "kryonix:smtpFrom: missing"),
        ({"smtp_username": "k"}, "kryonix:smtpPassword: missing"),
    ],
)
def test_an_invalid_value_is_named(given: dict[str, Any], said: str) -> None:
    (problem,) = settings(**given).problems()
    assert said in problem
    assert "token" not in problem


def test_settings_are_shown_without_their_secrets() -> None:
    shown = repr(settings(alert_webhook="https://ops.example/token", smtp_username="k", smtp_password="its password"))
    assert "token" not in shown
    assert "its password" not in shown


@pytest.mark.parametrize(
    "url",
    ["https://ops.example/hook?a=%20&b#c", "http://me:pass@[::1]:8080/", "https://hooks.example", "https://é.example/"],
)
def test_a_url_that_alertmanager_can_parse_is_accepted(url: str) -> None:
    assert settings(alert_webhook=url).problems() == []


def test_a_password_in_plain_text_is_refused() -> None:
    (problem,) = settings(smtp_username="k", smtp_password="p").problems()
    assert "kryonix:smtpPassword is stored in plain text" in problem


def test_ports_and_images_are_checked_with_the_platforms_own() -> None:
    with pytest.raises(InvalidStack) as refused:
        platform_settings(
            monitoring=settings(
                prometheus_port=5672, alertmanager_port=0, retention="x", alertmanager_image="a@sha256:1"
            )
        )
    lines = [line for line in str(refused.value).splitlines() if not line.startswith("kryonix-error")]
    assert len(lines) == 4
    said = (
        "kryonix:alertmanagerPort: 0 is",
        "kryonix:prometheusPort 5672",
        "alertmanagerImage: 'a@",
        "Retention: 'x'",
    )
    assert all(any(part in line for line in lines) for part in said)
    assert platform_settings(monitoring=settings(grafana_port=5672)).monitoring is not None, (
        "no Grafana, so no port of it"
    )


@pytest.mark.parametrize(
    ("address", "url"),
    [("127.0.0.1", "http://127.0.0.1:9090"), ("::1", "http://[::1]:9090"), ("0.0.0.0", "http://kryonix.example:9090")],
)
def test_the_url_is_for_those_who_can_reach_it(address: str, url: str) -> None:
    assert settings(address=address).url("kryonix.example", 9090) == url
