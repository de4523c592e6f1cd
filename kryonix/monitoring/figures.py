"""Figures of tenants from the registry and from the brokers, as Prometheus metrics.

Every series carries `cliente_id`. Thresholds are series too, so that alerts need no rule per tenant.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily, Metric

from kryonix.fleet.members import registered_tenants
from kryonix.monitoring.plans import plan_figures
from kryonix.monitoring.traffic import count_opened
from kryonix.rabbitmq.broker import Broker
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.registry.desired_states import DesiredState
from kryonix.topology.catalog import Catalog
from kryonix.topology.naming import Names, tenant_of_vhost


def registry_figures(dsn: str, catalog: Catalog) -> list[Metric]:
    """Return every tenant with its state and its plan's limits. Raises RegistryError."""
    states = registered_tenants(dsn)
    return [*tenant_figures(states), *plan_figures(states, catalog)]


def tenant_figures(states: Iterable[DesiredState]) -> list[Metric]:
    """Return the states of tenants."""
    info = _gauge("tenant_info", "A tenant of the registry.", "vhost", "plano", "status")
    converged = _gauge("tenant_converged", "1 if the last run applied the tenant's desired state.")
    for state in states:
        tenant = state.cliente_id
        info.add_metric([tenant, Names(tenant).vhost, state.plan, state.stage], 1)
        converged.add_metric([tenant], state.converged)
    return [info, converged]


def connection_figures(broker: Broker) -> list[Metric]:
    """Return the open connections and channels of every tenant's vhost. Raises BrokerUnavailable."""
    vhosts, all_vhosts = broker.listed("vhosts", columns="name")
    opened, all_opened = broker.listed("connections", columns="vhost,channels")
    if not (all_vhosts and all_opened):
        problem = "has more vhosts or connections than fit in an answer"
        raise BrokerUnavailable(f"the broker at {broker.url} {problem}. Spread its tenants over cells", problem)
    connections, channels = count_opened(opened)
    families: list[Metric] = []
    for name, about, counts in (
        ("connections", "Open connections of the tenant.", connections),
        ("channels", "Open channels of the tenant.", channels),
    ):
        family = _gauge(f"tenant_{name}", about)
        for vhost in vhosts:
            if (tenant := tenant_of_vhost(vhost["name"])) is not None:
                family.add_metric([tenant], counts[vhost["name"]])
        families.append(family)
    return families


def _gauge(name: str, about: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"kryonix_{name}", about, labels=["cliente_id", *labels])
