"""The dashboard of all tenants: who is near a limit."""

from __future__ import annotations

from typing import Final

from kryonix.monitoring.dashboards.grafana import Dashboard, Panel, Query, Row

TENANT_URL: Final = "/d/kryonix-tenant?${datasource:queryparam}&var-cliente_id=${__value.raw}"


def _share(used: str, resource: str) -> str:
    return f'({used}) / on (cliente_id) kryonix_plan_limit{{resource="{resource}"}}'


DEPTH: Final = 'max by (cliente_id) (rabbitmq_detailed_queue_messages{queue!~".+[.]dlq", cliente_id!=""})'
"""The tenant's deepest queue. Dead-letter queues have a limit of their own."""

CONNECTIONS: Final = _share("kryonix_tenant_connections", "connections")
CHANNELS: Final = _share("kryonix_tenant_channels", "channels")
DEEPEST: Final = _share(DEPTH, "queue_depth")
QUEUES: Final = _share('count by (cliente_id) (rabbitmq_detailed_queue_messages{cliente_id!=""})', "queues")
NEAREST: Final = " or ".join(
    f'label_replace({share}, "resource", "{name}", "", "")'
    for name, share in (("connections", CONNECTIONS), ("channels", CHANNELS), ("depth", DEEPEST))
)
"""Every tenant's share of each limit that traffic can reach."""

FIRING: Final = 'ALERTS{alertstate="firing", cliente_id!=""}'
READY: Final = 'sum by (cliente_id) (rabbitmq_detailed_queue_messages_ready{queue!~".+[.]dlq", cliente_id!=""})'
DEAD: Final = 'sum by (cliente_id) (rabbitmq_detailed_queue_messages{queue=~".+[.]dlq", cliente_id!=""})'
UNROUTED: Final = 'sum by (cliente_id) (rabbitmq_detailed_queue_messages{queue=~".+[.]unrouted", cliente_id!=""})'
PUBLISHED: Final = (
    "sum by (cliente_id) (rate(rabbitmq_detailed_exchange_messages_published_total"
    '{cliente_id!="", exchange!~".+[.]dlx"}[$__rate_interval]))'
)


def _number(title: str, description: str, expr: str, *, warn: float | None = None, alarm: float | None = None) -> Panel:
    return Panel(
        title=title,
        description=description,
        kind="stat",
        queries=[Query(expr=f"({expr}) or vector(0)", name=title)],
        width=3,
        height=4,
        warn=warn,
        alarm=alarm,
    )


def _top(title: str, share: str, rule: str) -> Panel:
    return Panel(
        title=title,
        description=f"The ten tenants with the largest share of their plan's limit. {rule}",
        kind="bargauge",
        unit="percentunit",
        queries=[Query(expr=f"topk(10, {share})", name="{{cliente_id}}")],
        width=8,
        height=9,
        warn=0.8,
        alarm=0.95,
        top=1,
    )


_NOW: Final = Row(
    title="Now",
    panels=[
        _number("Tenants", "Tenants in the registry, however they are managed.", "count(kryonix_tenant_info)"),
        _number(
            "Near a limit",
            "Tenants that use more than 80 % of a limit of connections, channels or depth. Offer them a larger plan.",
            f"count(max by (cliente_id) ({NEAREST}) > 0.8)",
            warn=1,
        ),
        _number(
            "Tenants with alerts",
            "Tenants with at least one firing alert. The table below names them.",
            f"count(count by (cliente_id) ({FIRING}))",
            alarm=1,
        ),
        _number(
            "Not applied",
            "Tenants whose desired state is not applied: an operation runs, or has failed. See `kryonix fleet status`.",
            "count(kryonix_tenant_converged == 0)",
            warn=1,
        ),
        _number(
            "Failed operations",
            "Tenants whose newest operation has failed. The operators' page says why.",
            "count(max by (cliente_id) (kryonix_tenant_operation_failed) == 1)",
            alarm=1,
        ),
        _number(
            "Drifted",
            "Tenants whose objects on the broker differ from what they should be. See `kryonix fleet drift`.",
            "count(kryonix_tenant_drifted == 1)",
            alarm=1,
        ),
        _number(
            "Messages waiting",
            "Ready messages of all tenants, without dead letters.",
            f"sum({READY})",
        ),
        _number(
            "Dead letters",
            "Messages of all tenants in dead-letter queues. `kryonix dead-letters list` shows them.",
            f"sum({DEAD})",
            warn=1,
        ),
    ],
)

_NEAR: Final = Row(
    title="Who is near a limit",
    panels=[
        Panel(
            title="Tenants",
            description="Shares of the plan's limits, depth of the deepest queue. A name opens the tenant's dashboard.",
            kind="table",
            columns=["cliente_id=Tenant", "plano=Plan", "status=Status"],
            link=TENANT_URL,
            sort="Nearest limit",
            queries=[
                Query(expr="max by (cliente_id, plano, status) (kryonix_tenant_info)", name=""),
                Query(expr=f"max by (cliente_id) ({NEAREST})", name="Nearest limit", unit="percentunit"),
                Query(expr=CONNECTIONS, name="Connections", unit="percentunit"),
                Query(expr=CHANNELS, name="Channels", unit="percentunit"),
                Query(expr=DEEPEST, name="Depth", unit="percentunit"),
                Query(expr=QUEUES, name="Queues", unit="percentunit"),
                Query(expr=PUBLISHED, name="Published", unit="mps"),
                Query(expr=DEAD, name="Dead letters"),
                Query(expr=UNROUTED, name="Unrouted"),
                Query(expr=f"count by (cliente_id) ({FIRING})", name="Alerts", may_be_empty=True),
            ],
            width=24,
            height=10,
        ),
        _top("Connections", CONNECTIONS, "At 100 % the broker refuses further connections."),
        _top("Channels", CHANNELS, "At 100 % the broker refuses further channels."),
        _top("Deepest queue", DEEPEST, "At 100 % the queue refuses publishes."),
        Panel(
            title="Nearest limit over time",
            description="The ten tenants with the largest share of any of these limits.",
            unit="percentunit",
            queries=[Query(expr=f"topk(10, max by (cliente_id) ({NEAREST}))", name="{{cliente_id}}")],
            top=1,
        ),
        Panel(
            title="Firing alerts",
            description="Alerts per tenant. The tenant's dashboard names them.",
            queries=[
                Query(
                    expr=f"count by (cliente_id, severity) ({FIRING})",
                    name="{{cliente_id}} {{severity}}",
                    may_be_empty=True,
                )
            ],
            stacked=True,
        ),
    ],
)

_TRAFFIC: Final = Row(
    title="Traffic",
    panels=[
        Panel(
            title="Published per tenant",
            description="Messages published to the tenant's exchanges; the ten busiest tenants.",
            unit="mps",
            queries=[Query(expr=f"topk(10, {PUBLISHED})", name="{{cliente_id}}")],
            stacked=True,
        ),
        Panel(
            title="Ready messages per tenant",
            description="Without dead letters; the ten tenants with most.",
            queries=[
                Query(
                    expr=f"topk(10, {READY})",
                    name="{{cliente_id}}",
                )
            ],
            stacked=True,
        ),
    ],
)

_AGE: Final = "time() - max by (cliente_id, stack) (kryonix_backup_verified_timestamp_seconds)"
_SIZE: Final = "max by (cliente_id, stack) (kryonix_backup_size_bytes)"

_BACKUPS: Final = Row(
    title="Backups",
    panels=[
        Panel(
            title="Age of the newest verified backup",
            description="The ten oldest, of tenants and platforms. Where a schedule makes them, 26 hours are an alert.",
            unit="s",
            queries=[Query(expr=f"topk(10, {_AGE})", name="{{cliente_id}}{{stack}}", may_be_empty=True)],
            warn=24 * 3600,
            alarm=26 * 3600,
        ),
        Panel(
            title="Size of the newest backup",
            description="The ten largest bundles, compressed and encrypted.",
            unit="bytes",
            queries=[Query(expr=f"topk(10, {_SIZE})", name="{{cliente_id}}{{stack}}", may_be_empty=True)],
        ),
    ],
)

_SOURCES: Final = Row(
    title="Are these figures current?",
    panels=[
        Panel(
            title="Targets",
            description="Green: Prometheus reads the target. Red: its figures are missing above.",
            kind="state-timeline",
            queries=[Query(expr='min by (job, instance) (up{job=~"kryonix-.+"})', name="{{job}} {{instance}}")],
        ),
        Panel(
            title="Sources of the exporter",
            description="Green: the exporter reads the source. Red: the source's figures are absent, not 0.",
            kind="state-timeline",
            queries=[Query(expr="min by (source) (kryonix_exporter_source_readable)", name="{{source}}")],
        ),
    ],
)

FLEET: Final = Dashboard(
    name="fleet",
    title="Kryonix: all tenants",
    description="Which tenants are near a limit, have alerts, or carry most of the traffic.",
    rows=[_NOW, _NEAR, _TRAFFIC, _BACKUPS, _SOURCES],
)
