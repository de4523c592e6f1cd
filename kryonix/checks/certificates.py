"""The certificates of a platform's TLS addresses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from kryonix.certificates.listeners import Listener, listeners_of
from kryonix.certificates.served import CertificateUnreadable
from kryonix.checks.findings import Finding

_DAY_S: Final = 86_400
SOON_DAYS: Final = 14
"""The keeper renews 30 days before: what has less left is not being renewed."""


def certificate_findings(outputs: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield a finding on each certificate that clients refuse, that expires soon or can't be read."""
    listeners, ca = listeners_of(outputs), str(outputs.get("ca_certificate") or "")
    if not listeners:
        yield Finding(check="certificates", outcome="not tried", why="no address of the platform has TLS")
    for name, listener in listeners.items():
        try:
            if problem := problem_of(listener, ca, datetime.now(UTC)):
                remedy = "Renew it (`kryonix certificates renew`)" if ca else f"Renew it where TLS of {name} ends"
                yield Finding(check="certificates", outcome="fail", why=f"{name}: {problem}", remedy=remedy)
        except CertificateUnreadable as error:
            yield Finding(check="certificates", outcome="unreachable", why=str(error))


def problem_of(listener: Listener, ca: str, now: datetime, days: float = SOON_DAYS) -> str:
    """Return why clients refuse a listener's certificate, or will within some days; empty if neither.

    `ca` is what they trust (PEM; empty: the system's CAs). Raises CertificateUnreadable.
    """
    expires = listener.served().expires
    left, date = (expires - now).total_seconds() / _DAY_S, f"{expires:%Y-%m-%d}"
    if left <= 0:
        return f"the certificate expired on {date}"
    if refused := listener.refused(ca):
        return refused
    return f"the certificate expires on {date}, in {left:.0f} days" if expires_soon(expires, now, days) else ""


def expires_soon(expires: datetime, now: datetime, days: float = SOON_DAYS) -> bool:
    """Return True if a certificate has no more than some days left, or none."""
    return expires - now <= timedelta(days=days)
