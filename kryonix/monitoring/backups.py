"""Figures of backups from the registry's records, as Prometheus metrics.

A tenant's series carry `cliente_id`; a platform's carry `stack`.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily, Metric

from kryonix.fleet.members import registered_tenants
from kryonix.registry.backups import NewestBackups, fetch_newest_backups
from kryonix.registry.connection import connect


def backup_figures(dsn: str) -> list[Metric]:
    """Return the newest backups of every platform and of every tenant that is not removed. Raises RegistryError."""
    tenants = {state.cliente_id for state in registered_tenants(dsn)}
    with connect(dsn) as connection:
        found = fetch_newest_backups(connection)
    return newest_figures(each for each in found if each.kind == "platform" or each.subject in tenants)


def newest_figures(found: Iterable[NewestBackups]) -> list[Metric]:
    """Return the figures of these subjects. What a subject has none of has no series."""
    created = _gauge("created_timestamp_seconds", "Time of the newest backup.")
    verified = _gauge("verified_timestamp_seconds", "Time of the newest backup that was proven to restore.")
    size = _gauge("size_bytes", "Size of the newest backup.")
    failed = _gauge("failed", "1 if the last attempt to make a backup failed.")
    verify_failed = _gauge("verify_failed", "1 if the last verification of a backup failed.")
    expected = _gauge("expected_timestamp_seconds", "Since when a schedule is expected to make backups.")
    for each in found:
        tenant = each.kind == "tenant"
        labels = [each.kind, each.subject if tenant else "", "" if tenant else each.stack]
        for family, at in ((created, each.created), (verified, each.verified), (expected, each.expected_since)):
            if at is not None:
                family.add_metric(labels, at.timestamp())
        if each.bytes is not None:
            size.add_metric(labels, each.bytes)
        failed.add_metric(labels, bool(each.error))
        verify_failed.add_metric(labels, bool(each.verify_error))
    return [created, verified, size, failed, verify_failed, expected]


def _gauge(name: str, about: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"kryonix_backup_{name}", about, labels=["kind", "cliente_id", "stack"])
