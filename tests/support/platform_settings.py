"""The settings of a platform as its config has them, without a config."""

from __future__ import annotations

from typing import Any

from components.exporter import MetricsEndpoint
from components.settings import PlatformSettings


def platform_settings(**changes: Any) -> PlatformSettings:
    """Return the settings of one node on this machine's loopback, with some changed."""
    given: dict[str, Any] = {
        "broker_image": "rabbitmq:4.3.6-management",
        "broker_memory_mb": 1024,
        "postgres_image": "postgres:17",
        "address": "127.0.0.1",
        "advertised_host": "127.0.0.1",
        "amqp_port": 5672,
        "management_port": 15672,
        "registry_port": 5432,
        "metrics": MetricsEndpoint(),
        "domain": "kryonix.example",
        "receive_time": False,
    }
    return PlatformSettings(**given | changes)
