"""Broker metrics: open on loopback, per tenant on the detailed endpoint, with a user elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.amqp import administrator
from tests.support.project import Project, tenant
from tests.support.waiting import eventually

DETAILED = {"vhost": "/cliente_beta", "family": ["queue_coarse_metrics", "queue_consumer_count"]}


def test_metrics_on_loopback_are_open(outputs: dict[str, Any]) -> None:
    answer = httpx.get(outputs["metrics_url"], timeout=30)
    assert answer.status_code == 200
    assert "rabbitmq_queues" in answer.text


def test_a_tenants_metrics_name_only_its_own_queues(outputs: dict[str, Any]) -> None:
    found: set[tuple[str, str]] = set()

    def only_its_own() -> bool:
        answer = httpx.get(f"{outputs['metrics_url']}/detailed", params=DETAILED, timeout=30).raise_for_status()
        found.clear()
        found.update(re.findall(r'vhost="([^"]*)",queue="([^"]*)"', answer.text))
        own = all(vhost == "/cliente_beta" and queue.startswith("cliente_beta.") for vhost, queue in found)
        return own and ("/cliente_beta", "cliente_beta.crm.leads.create") in found

    # A queue's first figures come 5 s after it, and its last ones go as late: other tests make and delete some.
    try:
        eventually("all of its queues are there, and no other", only_its_own)
    except AssertionError:
        pytest.fail(f"found {found}")


def test_metrics_beyond_loopback_require_a_user(tmp_path: Path) -> None:
    project = Project.platform(tmp_path / "project", tenant("unica", "crm"), metricsAddress="0.0.0.0", tls="false")
    with project.running():
        outputs = project.outputs()
        admin, url = administrator(outputs), outputs["metrics_url"]
        assert httpx.get(url, timeout=30).status_code == 401
        assert httpx.get(f"{url}/detailed", params=DETAILED, timeout=30).status_code == 401
        assert httpx.get(url, auth=("kryonix-metrics", "guessed"), timeout=30).status_code == 401

        scraper = {"password": "known to the test", "tags": admin.get("users", "kryonix-metrics")["tags"]}
        admin.call("PUT", "users", "kryonix-metrics", json=scraper).raise_for_status()
        assert httpx.get(url, auth=("kryonix-metrics", scraper["password"]), timeout=30).status_code == 200
