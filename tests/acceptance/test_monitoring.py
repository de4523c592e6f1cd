"""A platform with monitoring: Prometheus and Alertmanager run, read their targets, and are closed beyond loopback."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.acceptance.conftest import changed
from tests.support.project import Project, free_port, tenant
from tests.support.waiting import eventually

ROLES = ("prometheus", "alertmanager")


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A platform without monitoring at first: the tests turn it on, open it to the network, and turn it off."""
    folder = tmp_path_factory.mktemp("monitoring")
    ports = {key: free_port() for key in ("prometheusPort", "alertmanagerPort")}
    project = Project.platform(folder / "project", tenant("acme", "crm", plan="basic"), **ports)
    with project.running():
        yield project


def ids(platform: Project) -> dict[str, str]:
    """Return the id of each container by its role."""
    return {found.name.removeprefix(f"kryonix-{platform.stack}-"): found.id for found in platform.containers()}


def query(platform: Project, path: str, **parameters: str) -> Any:
    """Ask Prometheus' API, with the login if there is one."""
    outputs = platform.outputs()
    keys = ("monitoring_username", "monitoring_password")
    login = (outputs[keys[0]], outputs[keys[1]]) if keys[0] in outputs else None
    answer = httpx.get(f"{outputs['prometheus_url']}/api/v1/{path}", params=parameters, auth=login, trust_env=False)
    answer.raise_for_status()
    return answer.json()["data"]


def health(platform: Project) -> dict[str, str]:
    return {target["labels"]["job"]: target["health"] for target in query(platform, "targets")["activeTargets"]}


def test_a_running_platform_gets_monitoring(platform: Project) -> None:
    before = ids(platform)
    platform.configure(monitoring=True)
    platform.must("up")
    after = ids(platform)
    assert {role: after[role] for role in before} == before, "broker and database go on"
    assert set(ROLES) <= set(after)
    wanted = {"kryonix-broker", "kryonix-tenants", "prometheus", "alertmanager"}
    eventually("up", lambda: all(health(platform).get(job) == "up" for job in wanted))
    assert changed(platform.must("preview")) == []
