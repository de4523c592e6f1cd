"""Figures of tenants from the registry and from the brokers, as Prometheus metrics.

Every series carries `cliente_id`. Thresholds are series too, so that alerts need no rule per tenant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily, Metric

from kryonix.fleet.members import other_tenants
from kryonix.monitoring.plans import plan_figures
from kryonix.rabbitmq.broker import Broker
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.registry.connection import connect
from kryonix.registry.desired_states import DesiredState, fetch_desired_states
from kryonix.registry.rows import fetch_configurations
from kryonix.topology.catalog import Catalog
from kryonix.topology.naming import Names, tenant_of_vhost


def registered_tenants(dsn: str) -> list[DesiredState]:
    """Return the registry's tenants, however they are managed, without removed ones. Raises RegistryError.

    The cell of a tenant without a stack of its own is `unknown`.
    """
    with connect(dsn) as connection:
        states, rows = fetch_desired_states(connection), fetch_configurations(connection)
    others = (state for state, _ in other_tenants(rows, states, {}, ()).values())
    return [*(state for state in states if state.stage != "removed"), *others]


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
    connections = Counter(each["vhost"] for each in opened if "vhost" in each)
    channels: Counter[str] = Counter()
    for each in opened:
        channels[each.get("vhost", "")] += each.get("channels", 0)
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
