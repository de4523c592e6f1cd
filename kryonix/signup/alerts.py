"""Firing alerts, of the tenants and of the platform."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, Field

from kryonix.monitoring.prometheus import Prometheus
from kryonix.signup.keys import Scope
from kryonix.signup.problems import without_addresses
from kryonix.signup.prometheus import Monitoring, Recent
from kryonix.signup.runbooks import runbook_link

Severity = Literal["critical", "warning", "info"]
_ORDER: Final = {"critical": 0, "warning": 1, "info": 2}
_FRESH_S: Final = 5
_MOST: Final = 1000
"""Alerts of one answer."""


class AlertAnswer(BaseModel):
    """A firing alert."""

    name: str
    severity: Severity
    tenant: str | None = Field(description="Null if it is the platform's")
    summary: str
    description: str
    runbook: str | None = Field(description="Where to read what to do: a path of this service, or a URL")
    since: datetime = Field(description="When its condition began to hold")
    labels: dict[str, str] = Field(description="What it is about, such as `modulo` and `queue`")

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> AlertAnswer:
        """Build the answer from an alert of Prometheus."""
        labels, notes = dict(found["labels"]), found["annotations"]
        name, severity = labels.pop("alertname"), labels.pop("severity", "warning")
        return cls(
            name=name,
            severity=severity if severity in _ORDER else "warning",
            tenant=labels.pop("cliente_id", None),
            summary=notes.get("summary", name),
            description=notes.get("description", ""),
            runbook=runbook_link(notes.get("runbook")),
            since=_moment(found["activeAt"]),
            labels=labels,
        )

    def shown_to(self, scope: Scope) -> AlertAnswer:
        """Return the alert without addresses of the platform, unless the caller is an administrator."""
        if scope == "admin":
            return self
        labels = {name: without_addresses(text) for name, text in self.labels.items() if name != "instance"}
        texts = {name: without_addresses(getattr(self, name)) for name in ("summary", "description")}
        return self.model_copy(update={**texts, "labels": labels})


def _moment(text: str) -> datetime:
    """Return a moment of Prometheus, which has nanoseconds."""
    return datetime.fromisoformat(f"{text[:19]}+00:00").astimezone(UTC)


class AlertsAnswer(BaseModel):
    """Firing alerts, the most severe first, then the oldest."""

    alerts: list[AlertAnswer] = Field(description=f"At most {_MOST}")
    total: int

    @classmethod
    def of(cls, alerts: list[AlertAnswer], scope: Scope) -> AlertsAnswer:
        return cls(alerts=[each.shown_to(scope) for each in alerts[:_MOST]], total=len(alerts))


class Alerts:
    """Reads the alerts from Prometheus, at most once in 5 s."""

    def __init__(self, monitoring: Monitoring) -> None:
        self._monitoring = monitoring
        self._recent = Recent(_FRESH_S, self._read)

    async def get(self) -> list[AlertAnswer]:
        """Return all firing alerts, the most severe first. Raises MonitoringOff and MonitoringUnavailable."""
        return await self._recent.get(None)

    async def of_tenant(self, tenant: str) -> list[AlertAnswer]:
        """Return a tenant's firing alerts. Raises as `get`."""
        return [each for each in await self.get() if each.tenant == tenant]

    async def _read(self, _key: None) -> list[AlertAnswer]:
        found = [
            AlertAnswer.of(each) for each in await self._monitoring.ask(Prometheus.alerts) if each["state"] == "firing"
        ]
        return sorted(found, key=lambda each: (_ORDER[each.severity], each.since, each.tenant or "", each.name))
