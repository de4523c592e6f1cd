"""The dashboard of brokers: what all tenants of a cell share."""

from __future__ import annotations

from typing import Final

from kryonix.monitoring.dashboards.grafana import Dashboard, Panel, Query, Row, Variable
from kryonix.monitoring.dashboards.looks import Unit

_B: Final = 'job="kryonix-broker", instance=~"$instance"'


def _gauge(metric: str, name: str = "{{instance}}", *, limit: bool = False) -> Query:
    return Query(expr=f"max by (instance) ({metric}{{{_B}}})", name=name, limit=limit)


def _rate(metric: str, name: str) -> Query:
    return Query(expr=f"sum(rate({metric}{{{_B}}}[$__rate_interval]))", name=name)


def _share(title: str, used: str, limit: str, description: str) -> Panel:
    return Panel(
        title=title,
        description=description,
        kind="gauge",
        unit="percentunit",
        queries=[
            Query(expr=f"max by (instance) ({used}{{{_B}}}) / max by (instance) ({limit}{{{_B}}})", name="{{instance}}")
        ],
        width=4,
        height=5,
        warn=0.7,
        alarm=0.9,
        top=1,
    )


def _count(title: str, expr: str, description: str, *, alarm: float | None = None, unit: Unit = "short") -> Panel:
    queries = [Query(expr=expr, name=title)]
    return Panel(
        title=title, description=description, kind="stat", unit=unit, queries=queries, width=4, height=5, alarm=alarm
    )


def _graph(title: str, description: str, *queries: Query, unit: Unit = "short", log: bool = False) -> Panel:
    return Panel(title=title, description=description, unit=unit, queries=queries, width=8, log=log)


_NOW: Final = Row(
    title="Now",
    panels=[
        _share(
            "Memory",
            "rabbitmq_process_resident_memory_bytes",
            "rabbitmq_resident_memory_limit_bytes",
            "Memory of the alarm's limit. At 100 % the broker blocks every publisher of every tenant.",
        ),
        _share(
            "File descriptors",
            "rabbitmq_process_open_fds",
            "rabbitmq_process_max_fds",
            "Descriptors in use: connections and files. At 100 % the broker accepts no connection.",
        ),
        _share(
            "Erlang processes",
            "rabbitmq_erlang_processes_used",
            "rabbitmq_erlang_processes_limit",
            "Each queue needs about four, each connection and channel some more.",
        ),
        _count(
            "Alarms",
            " + ".join(
                f"sum(rabbitmq_alarms_{alarm}_watermark{{{_B}}})" for alarm in ("memory_used", "free_disk_space")
            ),
            "Memory and disk alarms. While one is set, nobody can publish.",
            alarm=1,
        ),
        _count(
            "Nodes not reachable",
            f"sum(rabbitmq_unreachable_cluster_peers_count{{{_B}}})",
            "Nodes of the cluster that another node can't reach.",
            alarm=1,
        ),
        _count("Up", f"min(rabbitmq_erlang_uptime_seconds{{{_B}}})", "Time since the youngest node's start.", unit="s"),
    ],
)

_RESOURCES: Final = Row(
    title="Resources",
    panels=[
        _graph(
            "Memory",
            "Resident memory. Dashed: the limit of the memory alarm.",
            _gauge("rabbitmq_process_resident_memory_bytes"),
            _gauge("rabbitmq_resident_memory_limit_bytes", "alarm {{instance}}", limit=True),
            unit="bytes",
        ),
        _graph(
            "Free disk",
            "Free space where the queues are stored. Dashed: the alarm's limit; below it nobody can publish.",
            _gauge("rabbitmq_disk_space_available_bytes"),
            _gauge("rabbitmq_disk_space_available_limit_bytes", "alarm {{instance}}", limit=True),
            unit="bytes",
        ),
        _graph(
            "File descriptors",
            "Open descriptors. Dashed: the limit.",
            _gauge("rabbitmq_process_open_fds"),
            _gauge("rabbitmq_process_max_fds", "limit {{instance}}", limit=True),
            log=True,
        ),
    ],
)

_CLIENTS: Final = Row(
    title="Connections",
    panels=[
        _graph(
            "Connections and channels",
            "Open now, of all tenants.",
            Query(expr=f"sum(rabbitmq_connections{{{_B}}})", name="connections"),
            Query(expr=f"sum(rabbitmq_channels{{{_B}}})", name="channels"),
            Query(expr=f"sum(rabbitmq_consumers{{{_B}}})", name="consumers"),
        ),
        _graph(
            "Churn",
            "Connections and channels opened and closed. A client that opens one for every message shows here.",
            _rate("rabbitmq_connections_opened_total", "connections opened"),
            _rate("rabbitmq_connections_closed_total", "connections closed"),
            _rate("rabbitmq_channels_opened_total", "channels opened"),
            _rate("rabbitmq_channels_closed_total", "channels closed"),
            unit="cps",
        ),
        _graph(
            "Logins",
            "Failed logins are wrong or old credentials.",
            _rate("rabbitmq_auth_attempts_succeeded_total", "succeeded"),
            _rate("rabbitmq_auth_attempts_failed_total", "failed"),
            unit="cps",
        ),
    ],
)

_MESSAGES: Final = Row(
    title="Messages",
    panels=[
        _graph(
            "Rates",
            "Messages of all tenants. Acknowledged stays below received: queues grow.",
            _rate("rabbitmq_global_messages_received_total", "received"),
            _rate("rabbitmq_global_messages_confirmed_total", "confirmed"),
            _rate("rabbitmq_global_messages_delivered_total", "delivered"),
            _rate("rabbitmq_global_messages_acknowledged_total", "acknowledged"),
            _rate("rabbitmq_global_messages_redelivered_total", "redelivered"),
            unit="mps",
        ),
        _graph(
            "Messages in queues",
            "Ready for a consumer, and delivered but not acknowledged.",
            Query(expr=f"sum(rabbitmq_queue_messages_ready{{{_B}}})", name="ready"),
            Query(expr=f"sum(rabbitmq_queue_messages_unacked{{{_B}}})", name="unacknowledged"),
        ),
        _graph(
            "Dead-lettered",
            "By the broker itself, by reason. The SDK's are not counted here: it publishes them to the module's dlx.",
            _rate("rabbitmq_global_messages_dead_lettered_delivery_limit_total", "retries used up"),
            _rate("rabbitmq_global_messages_dead_lettered_rejected_total", "rejected"),
            _rate("rabbitmq_global_messages_dead_lettered_expired_total", "expired"),
            _rate("rabbitmq_global_messages_dead_lettered_maxlen_total", "queue full"),
            unit="mps",
        ),
    ],
)

_QUEUES: Final = Row(
    title="Queues",
    panels=[
        _graph(
            "Queues",
            "Queues of all tenants. docs/scale.md says how many one broker carries.",
            Query(expr=f"sum(rabbitmq_queues{{{_B}}})", name="queues"),
        ),
        _graph(
            "Queues created and deleted",
            "Only tenants' creation, change and removal make or delete queues.",
            _rate("rabbitmq_queues_created_total", "created"),
            _rate("rabbitmq_queues_deleted_total", "deleted"),
            unit="cps",
        ),
        _graph(
            "Raft commit latency",
            "The slowest quorum queue's time to store an entry; and the metadata's. Rises with a slow disk.",
            Query(expr=f"max by (ra_system) (rabbitmq_raft_max_commit_latency_seconds{{{_B}}})", name="{{ra_system}}"),
            Query(
                expr=f"max by (ra_system) (rabbitmq_raft_commit_latency_seconds{{{_B}}})",
                name="{{ra_system}} (metadata)",
            ),
            unit="s",
        ),
    ],
)

_SCRAPES: Final = Row(
    title="Scrapes and certificates",
    panels=[
        _graph(
            "Duration",
            "How long each target takes to answer Prometheus. It must stay far below the interval of 15 s.",
            Query(expr='max by (job) (scrape_duration_seconds{job=~"kryonix-.+"})', name="{{job}}"),
            unit="s",
        ),
        _graph(
            "Series",
            "Series per scrape. docs/monitoring.md says how many a tenant needs.",
            Query(expr='sum by (job) (scrape_samples_post_metric_relabeling{job=~"kryonix-.+"})', name="{{job}}"),
        ),
        Panel(
            title="Certificates",
            description="Time until the certificate of an address expires. Empty without TLS.",
            kind="table",
            columns=["endpoint=Address"],
            queries=[
                Query(
                    expr="min by (endpoint) (kryonix_certificate_expiry_timestamp_seconds) - time()",
                    name="Expires in",
                    unit="s",
                    may_be_empty=True,
                )
            ],
            width=8,
        ),
    ],
)

BROKER: Final = Dashboard(
    name="broker",
    title="Kryonix: broker",
    description="Memory, disk, connections, Raft and rates of the broker that all tenants of a cell share.",
    variables=[
        Variable(
            name="instance",
            label="Broker",
            query='label_values(rabbitmq_identity_info{job="kryonix-broker"}, instance)',
            several=True,
        )
    ],
    alerts='ALERTS{alertname=~"Broker.+", alertstate="firing"}',
    rows=[_NOW, _RESOURCES, _CLIENTS, _MESSAGES, _QUEUES, _SCRAPES],
)
