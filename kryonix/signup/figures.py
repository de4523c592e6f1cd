"""Figures of operations for the exporter, by tenant. The service's own metrics name no tenant."""

from __future__ import annotations

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from kryonix.registry.connection import connect
from kryonix.signup.database import QUERIES
from kryonix.signup.operations import KINDS


def operation_figures(dsn: str) -> list[Metric]:
    """Return the count of ended operations, and each tenant's newest outcome. Raises RegistryError."""
    with connect(dsn) as connection:
        counts = {(row["kind"], row["status"]): row["count"] for row in connection.execute(QUERIES["count_ended"])}
        outcomes = connection.execute(QUERIES["fetch_outcomes"]).fetchall()
    ended = CounterMetricFamily(
        "kryonix_operations", "Ended operations of the signup service.", labels=["kind", "outcome"]
    )
    # From 0, so that the first failure is an increase.
    for key in sorted({*counts, *((kind, outcome) for kind in KINDS for outcome in ("succeeded", "failed"))}):
        ended.add_metric(key, counts.get(key, 0))
    failed = GaugeMetricFamily(
        "kryonix_tenant_operation_failed",
        "1 if the tenant's newest operation has failed.",
        labels=["cliente_id", "kind"],
    )
    for row in outcomes:
        failed.add_metric([row["tenant"], row["kind"]], row["failed"])
    return [ended, failed]
