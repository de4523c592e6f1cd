"""Figures of routing that learns, from the registry. They tell no content of a model, and not who shares outcomes."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily, Metric

from kryonix.registry.connection import connect
from kryonix.registry.routing_models import RoutingMode, fetch_modes


def routing_figures(dsn: str) -> list[Metric]:
    """Return the mode and the model of every tenant that has one. Raises RegistryError."""
    with connect(dsn) as connection:
        return mode_figures(fetch_modes(connection))


def mode_figures(modes: Iterable[RoutingMode]) -> list[Metric]:
    """Return the figures of these tenants. A tenant has one series of its mode, and one of its model if it has one."""
    mode = GaugeMetricFamily(
        "kryonix_routing_mode", "1 for the mode of the tenant's routing.", labels=["cliente_id", "mode"]
    )
    made = GaugeMetricFamily(
        "kryonix_routing_model_made_timestamp_seconds",
        "When the model that the tenant uses was trained.",
        labels=["cliente_id", "version"],
    )
    for each in modes:
        mode.add_metric([each.cliente_id, each.mode], 1)
        if each.version is not None and each.made_at is not None:
            made.add_metric([each.cliente_id, each.version], each.made_at.timestamp())
    return [mode, made]
