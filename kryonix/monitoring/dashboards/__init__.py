"""Grafana dashboards as Python. `python -m kryonix.monitoring.dashboards` writes them as JSON."""

from kryonix.monitoring.dashboards.broker import BROKER
from kryonix.monitoring.dashboards.fleet import FLEET
from kryonix.monitoring.dashboards.signup import SIGNUP
from kryonix.monitoring.dashboards.tenant import TENANT

ALL = (FLEET, TENANT, BROKER, SIGNUP)

__all__ = ["ALL", "BROKER", "FLEET", "SIGNUP", "TENANT"]
