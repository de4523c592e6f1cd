"""Findings on a platform's Prometheus."""

from __future__ import annotations

from typing import Any

import pytest

from kryonix.checks import monitored
from kryonix.checks.findings import Finding
from kryonix.monitoring.prometheus import Prometheus, PrometheusUnavailable

WATCHED = {"prometheus_url": "http://127.0.0.1:9090"}


class Fake:
    """A Prometheus with these targets and tenants, or none that answers."""

    url = "http://127.0.0.1:9090"

    def __init__(self, targets: list[dict[str, Any]], tenants: list[str] | None) -> None:
        self._targets, self._tenants = targets, tenants

    def targets(self) -> list[dict[str, Any]]:
        return self._targets

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        if self._tenants is None:
            raise PrometheusUnavailable(f"Prometheus at {self.url} does not answer (refused)")
        return [({"cliente_id": tenant}, 1.0) for tenant in self._tenants]

    def close(self) -> None: ...


def target(pool: str, health: str) -> dict[str, Any]:
    return {"scrapePool": pool, "scrapeUrl": f"http://{pool}/metrics", "health": health, "lastError": "refused"}


def watched(monkeypatch: pytest.MonkeyPatch, fake: Fake) -> tuple[set[str] | None, list[Finding]]:
    monkeypatch.setattr(Prometheus, "of", lambda outputs: fake if outputs else None)
    return monitored.read_monitored(WATCHED)


def test_without_monitoring_nothing_is_tried() -> None:
    tenants, found = monitored.read_monitored({})
    assert (tenants, [(each.check, each.outcome) for each in found]) == (None, [("monitoring", "not tried")])


def test_targets_that_are_down_are_named_with_their_error(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake([target("kryonix-broker", "up"), target("kryonix-exporter", "down")], ["acme"])
    tenants, (found,) = watched(monkeypatch, fake)
    assert tenants == {"acme"}
    assert found.why == "the target kryonix-exporter at http://kryonix-exporter/metrics is down: refused"
    assert found.outcome == "fail"


def test_a_prometheus_without_an_answer_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    tenants, (found,) = watched(monkeypatch, Fake([], None))
    assert (tenants, found.outcome) == (None, "unreachable")
    assert list(monitored.unseen("acme", tenants, Fake.url)) == []


def test_a_tenant_without_series_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    tenants, found = watched(monkeypatch, Fake([], ["acme"]))
    assert found == []
    (missing,) = [*monitored.unseen("acme", tenants, Fake.url), *monitored.unseen("beta", tenants, Fake.url)]
    assert (missing.tenant, missing.check, missing.why) == ("beta", "metrics", "Prometheus has no series of the tenant")
