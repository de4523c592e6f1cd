"""Broker metrics: open on loopback, per tenant on the detailed endpoint, with a user elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx

from tests.support.amqp import administrator
from tests.support.project import Project, tenant
from tests.support.waiting import eventually

DETAILED = {"vhost": "/cliente_beta", "family": ["queue_coarse_metrics", "queue_consumer_count"]}


def test_metrics_on_loopback_are_open(outputs: dict[str, Any]) -> None:
    answer = httpx.get(outputs["metrics_url"], timeout=30)
    assert answer.status_code == 200
    assert "rabbitmq_queues" in answer.text


def test_a_tenants_metrics_name_only_its_own_queues(outputs: dict[str, Any]) -> None:
    def figures() -> str | None:
        answer = httpx.get(f"{outputs['metrics_url']}/detailed", params=DETAILED, timeout=30).raise_for_status()
        queues = set(re.findall(r'queue="([^"]*)"', answer.text))
        known = "cliente_beta.crm.leads.create" in queues
        return answer.text if known and all(queue.startswith("cliente_beta.") for queue in queues) else None

    # A queue's first figures come 5 s after it, and its last ones go as late: other tests make and delete some.
    text = eventually("the figures name its queues and no other", figures)
    assert set(re.findall(r'vhost="([^"]*)"', text)) == {"/cliente_beta"}


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
