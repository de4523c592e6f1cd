"""A tenant's figures over the last hours, as charts need them. The queries are fixed; only the tenant's id varies."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from enum import IntEnum
from typing import Final

from pydantic import BaseModel, Field

from kryonix.signup.prometheus import Monitoring, Recent, quoted


class Hours(IntEnum):
    """The ranges of a chart."""

    ONE = 1
    SIX = 6
    DAY = 24


POINTS: Final = 241
"""Moments of every chart: the first and the last included."""
_STEP_S: Final = {hours: hours * 3600 // (POINTS - 1) for hours in Hours}
_FRESH_S: Final = 10
_LEAST_RATE_S: Final = 60
"""Four scrapes: a rate needs two, and one may be missing."""

_ACTIONS: Final = 'queue!~".+[.](dlq|unrouted|retry[.][0-9]+)"'
_PUBLISH: Final = 'exchange!~".+[.](dlx|unrouted)|amq[.].+|"'

_FIGURES: Final = {
    "waiting": "sum(rabbitmq_detailed_queue_messages_ready{{cliente_id={tenant},{actions}}})",
    "unacknowledged": "sum(rabbitmq_detailed_queue_messages_unacked{{cliente_id={tenant},{actions}}})",
    "fullest_queue": "max(rabbitmq_detailed_queue_messages{{cliente_id={tenant},{actions}}})",
    "published_per_s": (
        "sum(rate(rabbitmq_detailed_exchange_messages_published_total{{cliente_id={tenant},{publish}}}[{window}s]))"
    ),
    "acknowledged_per_s": (
        "sum(rate(rabbitmq_detailed_queue_messages_acked_total{{cliente_id={tenant},{actions}}}[{window}s]))"
    ),
    "wait_p95_s": (
        "histogram_quantile(0.95,"
        " sum by (le) (rate(kryonix_worker_wait_seconds_bucket{{cliente_id={tenant}}}[{window}s])))"
    ),
    "consumers": "sum(rabbitmq_detailed_queue_consumers{{cliente_id={tenant},{actions}}})",
    "dead_letters": 'sum(rabbitmq_detailed_queue_messages{{cliente_id={tenant},queue=~".+[.]dlq"}})',
    "unrouted": 'sum(rabbitmq_detailed_queue_messages{{cliente_id={tenant},queue=~".+[.]unrouted"}})',
    "connections": "max(kryonix_tenant_connections{{cliente_id={tenant}}})",
    "channels": "max(kryonix_tenant_channels{{cliente_id={tenant}}})",
}
"""Each figure's query: one series without labels."""

_LIMITS: Final = ("connections", "channels", "queue_depth", "scale_up_threshold")


class ChartsAnswer(BaseModel):
    """A tenant's figures over time. The value number n of each is from `start` + n × `step`."""

    tenant: str
    hours: Hours
    start: int = Field(description="Unix seconds, UTC")
    step: int = Field(description="Seconds between two values")
    figures: dict[str, list[float | None]] = Field(
        description=f"{POINTS} values of each figure; null where there is none. A figure without any value is absent: "
        "it is not measured, which does not mean 0. Figures: " + ", ".join(f"`{name}`" for name in _FIGURES),
    )
    limits: dict[str, float] = Field(
        description="The plan's limits now: `connections`, `channels`, and per queue `queue_depth` (messages) and "
        "`scale_up_threshold`. Absent if not measured"
    )


class Charts:
    """Reads charts from Prometheus. The same chart is read at most once in 10 s."""

    def __init__(self, monitoring: Monitoring, clock: Callable[[], float] = time.time) -> None:
        self._monitoring, self._clock = monitoring, clock
        self._recent = Recent(_FRESH_S, self._read)

    async def get(self, tenant: str, hours: Hours) -> ChartsAnswer:
        """Return a tenant's figures. Raises MonitoringOff and MonitoringUnavailable."""
        return await self._recent.get((tenant, hours))

    async def _read(self, key: tuple[str, Hours]) -> ChartsAnswer:
        tenant, hours = key
        step = _STEP_S[hours]
        end = int(self._clock()) // step * step  # the same moments at every reading, so that lines stand still
        start = end - step * (POINTS - 1)
        series, limits = await asyncio.gather(
            self._monitoring.ask(lambda server: server.query_range(figures_query(tenant, step), start, end, step)),
            self._monitoring.ask(lambda server: server.query(limits_query(tenant), end)),
        )
        moments = range(start, end + 1, step)
        figures = {labels.get("figure", ""): [_rounded(values.get(at)) for at in moments] for labels, values in series}
        return ChartsAnswer(
            tenant=tenant,
            hours=hours,
            start=start,
            step=step,
            figures={name: values for name, values in figures.items() if any(each is not None for each in values)},
            limits={labels.get("resource", ""): value for labels, value in limits},
        )


def figures_query(tenant: str, step: int) -> str:
    """Return one query for all figures, told apart by the label `figure`."""
    values = {
        "tenant": quoted(tenant),
        "actions": _ACTIONS,
        "publish": _PUBLISH,
        "window": max(step, _LEAST_RATE_S),
    }
    return " or ".join(
        f'label_replace({query.format(**values)}, "figure", "{name}", "", "")' for name, query in _FIGURES.items()
    )


def limits_query(tenant: str) -> str:
    """Return the query for the plan's limits, told apart by the label `resource`."""
    return f'max by (resource) (kryonix_plan_limit{{cliente_id={quoted(tenant)},resource=~"{"|".join(_LIMITS)}"}})'


def _rounded(value: float | None) -> float | None:
    """Return four significant digits of a fraction, so that answers stay small; None for what is not a number."""
    if value is None or not math.isfinite(value):
        return None
    return value if value.is_integer() else float(f"{value:.4g}")
