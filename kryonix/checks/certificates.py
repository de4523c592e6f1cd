"""The certificates of a platform's TLS addresses."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from kryonix.checks.findings import Finding
from kryonix.monitoring.certificates import CertificateUnreadable, expires_at, tls_endpoints

_DAY_S: Final = 86_400
_SOON_DAYS: Final = 14


def certificate_findings(outputs: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield a finding on each certificate that has expired, expires soon or can't be read."""
    endpoints = tls_endpoints(outputs)
    if not endpoints:
        yield Finding(check="certificates", outcome="not tried", why="no address of the platform has TLS")
    for name, address in endpoints.items():
        try:
            yield from _judged(name, expires_at(*address), time.time())
        except CertificateUnreadable as error:
            yield Finding(check="certificates", outcome="unreachable", why=str(error))


def _judged(name: str, expires: float, now: float) -> Iterator[Finding]:
    days, date = (expires - now) / _DAY_S, f"{datetime.fromtimestamp(expires, UTC):%Y-%m-%d}"
    if days > _SOON_DAYS:
        return
    what = f"expired on {date}" if days <= 0 else f"expires on {date}, in {days:.0f} days"
    remedy = f"Renew it where TLS of {name} ends, then restart or reload that service"
    yield Finding(check="certificates", outcome="fail", why=f"the certificate of {name} {what}", remedy=remedy)
