"""The dashboard of the signup service."""

from __future__ import annotations

from typing import Final

from kryonix.monitoring.dashboards.grafana import Dashboard, Panel, Query, Row
from kryonix.monitoring.dashboards.looks import Unit

_RATE: Final = "rate(kryonix_signup_requests_total{labels}[$__rate_interval])"


def _requests(labels: str) -> str:
    return _RATE.format(labels=labels)


def _now(title: str, expr: str, description: str, *, unit: Unit = "short", warn: float | None = None) -> Panel:
    return Panel(
        title=title,
        description=description,
        kind="stat",
        unit=unit,
        queries=[Query(expr=expr, name=title)],
        width=6,
        height=4,
        warn=warn,
    )


_NOW: Final = Row(
    title="Now",
    panels=[
        _now("Requests", f"sum({_requests('')})", "Requests per second.", unit="reqps"),
        _now(
            "Oldest queued operation",
            "max(kryonix_signup_oldest_queued_seconds)",
            "Age of the oldest operation that no worker has taken. If it grows, no worker runs.",
            unit="s",
            warn=60,
        ),
        _now(
            "Events waiting",
            "max(kryonix_signup_events_unpublished)",
            "Events in the outbox that are not in the broker yet.",
            warn=100,
        ),
        _now(
            "Oldest event",
            "max(kryonix_signup_oldest_event_seconds)",
            "Age of the oldest event in the outbox. If it grows, the broker refuses or does not answer.",
            unit="s",
            warn=60,
        ),
    ],
)

_REQUESTS: Final = Row(
    title="Requests",
    panels=[
        Panel(
            title="Requests by status",
            description="Status 4xx is the caller's mistake; 5xx is the service's, or the database doesn't answer.",
            unit="reqps",
            queries=[Query(expr=f"sum by (status) ({_requests('')})", name="{{status}}")],
            stacked=True,
        ),
        Panel(
            title="Requests by route",
            description="What callers use.",
            unit="reqps",
            queries=[Query(expr=f"sum by (method, route) ({_requests('')})", name="{{method}} {{route}}")],
        ),
        Panel(
            title="Duration",
            description="Half of the requests, and 95 of 100, are answered within this time.",
            unit="s",
            queries=[
                Query(
                    expr=f"histogram_quantile({quantile}, sum by (le)"
                    " (rate(kryonix_signup_request_seconds_bucket[$__rate_interval])))",
                    name=name,
                )
                for quantile, name in ((0.5, "median"), (0.95, "95th percentile"))
            ],
        ),
        Panel(
            title="Duration by route, 95th percentile",
            description="A route that queries much, or a stream of events that stays open.",
            unit="s",
            queries=[
                Query(
                    expr="histogram_quantile(0.95, sum by (le, route)"
                    " (rate(kryonix_signup_request_seconds_bucket[$__rate_interval])))",
                    name="{{route}}",
                )
            ],
        ),
    ],
)

_OPERATIONS: Final = Row(
    title="Operations",
    panels=[
        Panel(
            title="Operations by status",
            description="Operations in the database: queued, running, succeeded or failed.",
            queries=[Query(expr="sum by (status) (kryonix_signup_operations)", name="{{status}}")],
        ),
        Panel(
            title="Ended in the last hour",
            description="Operations by kind and outcome. The operators' page says why one has failed.",
            queries=[
                Query(
                    expr="sum by (kind, outcome) (increase(kryonix_operations_total[1h]))", name="{{kind}} {{outcome}}"
                )
            ],
        ),
        Panel(
            title="Age of waiting work",
            description="The oldest operation without a worker, and the oldest event that is not in the broker yet.",
            unit="s",
            queries=[
                Query(expr="max(kryonix_signup_oldest_queued_seconds)", name="operation"),
                Query(expr="max(kryonix_signup_oldest_event_seconds)", name="event"),
            ],
        ),
        Panel(
            title="Events waiting",
            description="Events in the outbox that are not in the broker yet.",
            queries=[Query(expr="max(kryonix_signup_events_unpublished)", name="events")],
        ),
    ],
)

SIGNUP: Final = Dashboard(
    name="signup",
    title="Kryonix: signup service",
    description="Requests, operations and events of the signup service.",
    rows=[_NOW, _REQUESTS, _OPERATIONS],
)
