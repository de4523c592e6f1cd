"""A platform with monitoring: Prometheus and Alertmanager run, read their targets, and are closed beyond loopback.

The tests run in order on one platform: monitoring is turned on, opened to the network, and turned off.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import docker
import httpx
import pytest

from tests.acceptance.conftest import changed
from tests.support.containers import process_status
from tests.support.deployments import entangled
from tests.support.live_broker import LiveBroker
from tests.support.project import Project, free_port, tenant
from tests.support.waiting import eventually

ROLES = {"prometheus", "alertmanager"}
DATA = ("rabbitmq", "postgres")
OPEN = {"kryonix-broker", "kryonix-tenants", "kryonix-exporter", "prometheus", "alertmanager"}
"""Jobs whose targets every platform with monitoring has."""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("monitoring")
    ports = {key: free_port() for key in ("prometheusPort", "alertmanagerPort")}
    project = Project.platform(folder / "project", tenant("acme", "crm", plan="basic"), **ports)
    with project.running():
        yield project


def ids(platform: Project) -> dict[str, str]:
    """Return the id of each container by its role."""
    return {found.name.removeprefix(f"kryonix-{platform.stack}-"): found.id for found in platform.containers()}


def get(url: str, login: tuple[str, str] | None = None, **parameters: str) -> httpx.Response:
    return httpx.get(url, params=parameters, auth=login, trust_env=False)


def query(platform: Project, path: str, **parameters: str) -> Any:
    """Ask Prometheus' API, with the login if there is one."""
    outputs = platform.outputs()
    keys = ("monitoring_username", "monitoring_password")
    login = (outputs[keys[0]], outputs[keys[1]]) if keys[0] in outputs else None
    answer = get(f"{outputs['prometheus_url']}/api/v1/{path}", login, **parameters)
    answer.raise_for_status()
    return answer.json()["data"]


def all_up(platform: Project) -> bool:
    found = {target["labels"]["job"]: target["health"] for target in query(platform, "targets")["activeTargets"]}
    return {job for job, health in found.items() if health == "up"} >= OPEN


def test_a_running_platform_gets_monitoring_and_is_left_alone(platform: Project) -> None:
    before = ids(platform)
    platform.configure(monitoring=True)
    assert "monitoring_username" not in platform.outputs()
    platform.must("up")
    after = ids(platform)
    assert {role: after[role] for role in before} == before, "broker and database go on"
    assert set(after) - set(before) >= ROLES
    assert changed(platform.must("preview")) == []
    outputs = platform.outputs()
    assert get(f"{outputs['alertmanager_url']}/api/v2/status").json()["cluster"]["status"] == "disabled"
    assert "monitoring_password" not in outputs, "none is needed on loopback"
    shown = platform.must("status")
    assert (shown["prometheus_url"], shown["alertmanager_url"]) == tuple(
        outputs[f"{role}_url"] for role in ("prometheus", "alertmanager")
    )


def test_no_container_is_replaced_along_with_another(platform: Project) -> None:
    assert entangled(json.loads(platform.run("export").stdout)["deployment"]["resources"]) == []


def test_prometheus_reads_its_targets_and_the_tenants_labels(platform: Project) -> None:
    eventually("all targets are up", lambda: all_up(platform))
    depth = 'rabbitmq_detailed_queue_messages{cliente_id="acme", modulo="crm", acao="leads.create"}'
    found = eventually("the tenant's queues", lambda: query(platform, "query", query=depth)["result"])
    assert {series["metric"]["queue"] for series in found} >= {"cliente_acme.crm.leads.create"}
    rules = query(platform, "rules")["groups"]
    assert rules
    assert {rule["health"] for group in rules for rule in group["rules"]} <= {"ok", "unknown"}
    managers = query(platform, "alertmanagers")["activeAlertmanagers"]
    assert [manager["url"] for manager in managers] == ["http://alertmanager:9093/api/v2/alerts"]


def sample(platform: Project, **at: str) -> tuple[str, str] | None:
    """Return time and value of whether the broker answered, as Prometheus knows it."""
    found = query(platform, "query", query='up{job="kryonix-broker"}', **at)["result"]
    return (str(found[0]["value"][0]), found[0]["value"][1]) if found else None


def test_a_restart_of_prometheus_keeps_its_data(platform: Project) -> None:
    at, up = eventually("a sample", lambda: sample(platform))
    with closing(docker.from_env()) as client:
        client.containers.get(f"kryonix-{platform.stack}-prometheus").restart()
    again = eventually("that sample", lambda: sample(platform, time=at), ignoring=(httpx.HTTPError,))
    assert again == (at, up)


@pytest.mark.parametrize("role", sorted(ROLES))
def test_a_server_has_no_rights(platform: Project, role: str) -> None:
    with closing(docker.from_env()) as client:
        container = client.containers.get(f"kryonix-{platform.stack}-{role}")
        host, fields = container.attrs["HostConfig"], process_status(container)
    assert {int(fields[key], 16) for key in ("CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd")} == {0}
    assert (fields["Uid"].split()[0], fields["NoNewPrivs"].strip()) == ("65534", "1")
    assert host["Memory"] > 0


def test_beyond_loopback_both_servers_require_the_login(platform: Project) -> None:
    before = ids(platform)
    at, up = eventually("a sample", lambda: sample(platform))
    token = "token-of-ops"
    platform.configure(monitoringAddress="0.0.0.0", advertisedHost="127.0.0.1", workerTargets=["w1.example:9421"])
    platform.configure(alertWebhook=f"https://ops.example/{token}")
    platform.must("up")
    assert changed(platform.must("preview")) == []
    outputs = platform.outputs()
    login = outputs["monitoring_username"], outputs["monitoring_password"]
    for url in (f"{outputs['prometheus_url']}/api/v1/targets", f"{outputs['alertmanager_url']}/api/v2/alerts"):
        assert [get(url, given).status_code for given in (None, (login[0], "wrong"), login)] == [401, 401, 200]
    eventually("all targets are up, with the login", lambda: all_up(platform))
    targets = [each["labels"] for each in query(platform, "targets")["activeTargets"]]
    assert [each["instance"] for each in targets if each["job"] == "kryonix-worker"] == ["w1.example:9421"]
    assert sample(platform, time=at) == (at, up), "the data stay"
    after = ids(platform)
    assert {role: after[role] for role in DATA} == {role: before[role] for role in DATA}
    with closing(docker.from_env()) as client:
        shown = json.dumps([client.api.inspect_container(id) for id in after.values()])
    states = (platform.folder / ".kryonix" / "stacks" / platform.stack).glob("*.json")
    kept = "".join(file.read_text() for file in states)
    assert "monitoring-password" in kept
    assert [name for name in (login[1], outputs["metrics_password"], token) if name in shown + kept] == []


def test_turned_off_only_its_containers_and_data_go(platform: Project) -> None:
    before = ids(platform)
    with LiveBroker(platform.outputs()) as broker:
        broker.publish("/cliente_acme", "cliente_acme.crm.leads.create")
        platform.configure(monitoring=False)
        platform.must("up")
        assert ids(platform) == {role: before[role] for role in DATA}
        assert broker.take("/cliente_acme", "cliente_acme.crm.leads.create", 1) == 1
    with closing(docker.from_env()) as client:
        left = client.volumes.list(filters={"name": f"kryonix-{platform.stack}-"})
    assert {volume.name for volume in left} == {
        f"kryonix-{platform.stack}-{role}-data" for role in ("rabbitmq", "postgres")
    }
    assert not {key for key in platform.outputs() if key.startswith(("prometheus", "alertmanager", "monitoring"))}
