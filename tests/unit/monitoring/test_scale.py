"""The exporter with 1,000 tenants."""

from __future__ import annotations

import time
import tracemalloc
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, generate_latest

from kryonix.monitoring.drift import DriftReader
from kryonix.monitoring.exporter import Exporter
from kryonix.monitoring.figures import tenant_figures
from kryonix.monitoring.plans import plan_figures
from kryonix.registry.desired_states import DesiredState
from kryonix.topology.catalog import default_catalog
from kryonix.topology.expansion import expand
from kryonix.topology.tenants import Tenant
from tests.unit.monitoring.test_drift import as_declared

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TENANTS = 1_000


def test_a_thousand_tenants_take_seconds_and_megabytes() -> None:
    catalog = default_catalog()
    modules = tuple(catalog.modules)
    states = [
        DesiredState(
            cliente_id=f"loja-{number:04}",
            modules=modules[: 1 + number % 3],
            plan=("basic", "pro", "enterprise")[number % 3],
            applied_at=NOW,
            updated_at=NOW,
        )
        for number in range(TENANTS)
    ]
    tenants = (Tenant(id=each.cliente_id, modules=each.modules, plan=each.plan) for each in states)
    seen = as_declared(*(expand(tenant, catalog) for tenant in tenants))
    drift = DriftReader("main", lambda: states, lambda: seen, catalog, alone=True)
    sources = {"registry": lambda: [*tenant_figures(states), *plan_figures(states, catalog)], "drift": drift.read}
    exporter = Exporter(sources, 15)
    registry = CollectorRegistry()
    registry.register(exporter)
    tracemalloc.start()
    try:
        began = time.process_time()
        exporter.read()
        text = generate_latest(registry).decode()
        seconds, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert text.count("kryonix_tenant_drifted{") == TENANTS
    assert text.count(" 1.0") >= TENANTS
    print(f"{seconds:.1f} s, {peak / 2**20:.0f} MiB")
    assert seconds < 30
    assert peak < 128 * 2**20
