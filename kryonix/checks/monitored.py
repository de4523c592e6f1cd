"""A platform's Prometheus: its targets, and the tenants that it has series of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from kryonix.checks.findings import Finding
from kryonix.monitoring.prometheus import Prometheus, PrometheusUnavailable

_TENANTS: Final = 'count by (cliente_id) ({job="kryonix-tenants", cliente_id!=""})'
_OFF: Final = "kryonix:monitoring is off"


def read_monitored(outputs: Mapping[str, Any]) -> tuple[set[str] | None, list[Finding]]:
    """Return the tenants with series in Prometheus, None if that is not known, and the findings on it."""
    prometheus = Prometheus.of(outputs)
    if prometheus is None:
        return None, [Finding(check="monitoring", outcome="not tried", why=_OFF)]
    try:
        found = list(_down(prometheus))
        tenants = {labels["cliente_id"] for labels, _ in prometheus.query(_TENANTS)}
    except PrometheusUnavailable as error:
        return None, [Finding(check="monitoring", outcome="unreachable", why=str(error))]
    finally:
        prometheus.close()
    return tenants, found


def unseen(tenant: str, monitored: set[str] | None, url: str) -> Iterator[Finding]:
    """Yield a finding on a tenant of which Prometheus has no series."""
    if monitored is not None and tenant not in monitored:
        remedy = f"Look at {url}/targets. A new tenant has series after the next scrape: check again in a minute"
        why = "Prometheus has no series of the tenant"
        yield Finding(check="metrics", outcome="fail", tenant=tenant, why=why, remedy=remedy)


def _down(prometheus: Prometheus) -> Iterator[Finding]:
    for target in prometheus.targets():
        if target["health"] == "down":
            why = f"the target {target['scrapePool']} at {target['scrapeUrl']} is down: {target['lastError']}"
            remedy = f"Start what should answer there, or take it out; see {prometheus.url}/targets"
            yield Finding(check="monitoring", outcome="fail", why=why, remedy=remedy)
