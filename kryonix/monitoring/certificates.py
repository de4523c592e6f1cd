"""When the certificates of TLS listeners expire."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client.core import GaugeMetricFamily, Metric

from kryonix.certificates.listeners import Listener
from kryonix.certificates.served import CertificateUnreadable
from kryonix.monitoring.exporter import PartlyRead


def certificate_figures(listeners: Mapping[str, Listener]) -> list[Metric]:
    """Return when each listener's certificate expires. Raises PartlyRead with the others if one can't be read."""
    expiry = GaugeMetricFamily(
        "kryonix_certificate_expiry_timestamp_seconds", "When the certificate expires.", labels=["endpoint"]
    )
    problems = []
    for name, listener in listeners.items():
        try:
            expiry.add_metric([name], listener.served().expires.timestamp())
        except CertificateUnreadable as error:
            problems.append(str(error))
    if problems:
        raise PartlyRead("; ".join(problems), [expiry])
    return [expiry]
