"""Figures of tenants' routing."""

from __future__ import annotations

from datetime import UTC, datetime

from kryonix.monitoring.routing import mode_figures
from kryonix.registry.routing_models import RoutingMode
from tests.support.scrapes import recorded

MADE = datetime(2026, 11, 28, 2, tzinfo=UTC)
MODES = (
    RoutingMode(cliente_id="acme", mode="canary", version="0123456789ab", made_at=MADE),
    RoutingMode(cliente_id="beta", mode="off", version=None, made_at=None),
)


def test_a_tenant_has_its_mode_and_its_models_time() -> None:
    families = mode_figures(MODES)
    assert {family.name for family in families} <= recorded().keys()
    assert {tuple(sample.labels.values()): sample.value for family in families for sample in family.samples} == {
        ("acme", "canary"): 1,
        ("beta", "off"): 1,
        ("acme", "0123456789ab"): MADE.timestamp(),
    }
