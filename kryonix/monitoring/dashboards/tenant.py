"""The dashboard of one tenant."""

from __future__ import annotations

from typing import Final

from kryonix.monitoring.dashboards.grafana import Dashboard, Panel, Query, Row, Variable

_T: Final = 'cliente_id="$cliente_id"'
_ROUTE: Final = f'{_T}, modulo=~"$modulo"'
_ACTIONS: Final = f'{_ROUTE}, queue!~".+[.]dlq"'
_DEAD: Final = f'{_ROUTE}, queue=~".+[.]dlq"'
_UNROUTED: Final = f'{_T}, queue=~".+[.]unrouted"'
_PUBLIC: Final = f'{_T}, exchange!~".+[.]dlx"'
_NAME: Final = "{{modulo}}.{{acao}}"


def _limit(resource: str, name: str) -> Query:
    return Query(expr=f'max(kryonix_plan_limit{{{_T}, resource="{resource}"}})', name=name, limit=True)


def _share(title: str, used: str, resource: str, description: str) -> Panel:
    return Panel(
        title=title,
        description=description,
        kind="gauge",
        unit="percentunit",
        queries=[Query(expr=f'({used}) / max(kryonix_plan_limit{{{_T}, resource="{resource}"}})', name=title)],
        width=4,
        height=5,
        warn=0.8,
        alarm=0.95,
        top=1,
    )


def _held(title: str, labels: str, description: str) -> Panel:
    return Panel(
        title=title,
        description=description,
        kind="stat",
        queries=[Query(expr=f"sum(rabbitmq_detailed_queue_messages{{{labels}}})", name=title)],
        width=4,
        height=5,
        warn=1,
    )


def _waits(share: float, by: str) -> str:
    rate = f"rate(kryonix_worker_wait_seconds_bucket{{{_ROUTE}}}[$__rate_interval])"
    return f"histogram_quantile({share}, sum by (le, {by}) ({rate}))"


_NOW: Final = Row(
    title="Now",
    panels=[
        _share(
            "Connections",
            f"max(kryonix_tenant_connections{{{_T}}})",
            "connections",
            "Open connections of the plan's limit. At 100 % the broker refuses further ones.",
        ),
        _share(
            "Channels",
            f"max(kryonix_tenant_channels{{{_T}}})",
            "channels",
            "Open channels of the plan's limit.",
        ),
        _share(
            "Deepest queue",
            f'max(rabbitmq_detailed_queue_messages{{{_T}, queue!~".+[.]dlq"}})',
            "queue_depth",
            "Messages of the fullest queue, of the plan's limit. At 100 % the queue refuses publishes.",
        ),
        _held("Dead letters", f'{_T}, queue=~".+[.]dlq"', "Messages whose retries are used up. See `kryonix redrive`."),
        _held("Unrouted", _UNROUTED, "Messages that matched no binding. See `kryonix unrouted`."),
        Panel(
            title="Firing alerts",
            description="Alerts of this tenant that fire now; the table below names them.",
            kind="stat",
            queries=[Query(expr=f'count(ALERTS{{{_T}, alertstate="firing"}}) or vector(0)', name="Firing alerts")],
            width=4,
            height=5,
            alarm=1,
        ),
        Panel(
            title="Plan and state",
            description="Plan and status in the registry; whether the last run applied them, and the broker has them.",
            kind="table",
            columns=["plano=Plan", "status=Status"],
            queries=[
                Query(expr=f"max by (plano, status) (kryonix_tenant_info{{{_T}}})", name=""),
                Query(expr=f"max(kryonix_tenant_converged{{{_T}}})", name="Applied", unit="bool_yes_no"),
                Query(
                    expr=f"max(kryonix_tenant_drifted{{{_T}}})", name="Drifted", unit="bool_yes_no", may_be_empty=True
                ),
                Query(
                    expr=f"max(kryonix_tenant_operation_failed{{{_T}}})",
                    name="Operation failed",
                    unit="bool_yes_no",
                    may_be_empty=True,
                ),
            ],
            width=8,
            height=6,
        ),
        Panel(
            title="Alerts",
            description="What fires now. docs/runbooks.md says what to do about each.",
            kind="table",
            columns=["alertname=Alert", "severity=Severity", "modulo=Module", "acao=Action"],
            queries=[
                Query(
                    expr=f'max by (alertname, severity, modulo, acao) (ALERTS{{{_T}, alertstate="firing"}})',
                    name="",
                    may_be_empty=True,
                )
            ],
            width=16,
            height=6,
        ),
    ],
)

_MESSAGES: Final = Row(
    title="Messages",
    panels=[
        Panel(
            title="Depth",
            description="Messages of the ten deepest actions. Dashed: consumers are added, and publishes refused.",
            queries=[
                Query(
                    expr=f"topk(10, max by (modulo, acao) (rabbitmq_detailed_queue_messages{{{_ACTIONS}}}))",
                    name=_NAME,
                ),
                _limit("scale_up_threshold", "add consumers"),
                _limit("queue_depth", "refuse publishes"),
            ],
            log=True,
            height=9,
        ),
        Panel(
            title="Wait, 95th percentile",
            description="From the broker's receipt of a message to the handler's start. Needs `kryonix:receiveTime`.",
            unit="s",
            queries=[
                Query(
                    expr=_waits(0.95, "modulo, acao"),
                    name=_NAME,
                )
            ],
            height=9,
        ),
        Panel(
            title="Published",
            description="Messages that applications publish, by exchange.",
            unit="mps",
            queries=[
                Query(
                    expr="sum by (exchange)"
                    f" (rate(rabbitmq_detailed_exchange_messages_published_total{{{_PUBLIC}}}[$__rate_interval]))",
                    name="{{exchange}}",
                )
            ],
        ),
        Panel(
            title="Acknowledged",
            description="Messages that consumers have finished, per action.",
            unit="mps",
            queries=[
                Query(
                    expr="sum by (modulo, acao)"
                    f" (rate(rabbitmq_detailed_queue_messages_acked_total{{{_ACTIONS}}}[$__rate_interval]))",
                    name=_NAME,
                )
            ],
        ),
        Panel(
            title="Consumers",
            description="Consumers per action that has any.",
            queries=[
                Query(
                    expr=f"sum by (modulo, acao) (rabbitmq_detailed_queue_consumers{{{_ACTIONS}}}) > 0",
                    name=_NAME,
                ),
                _limit("consumers_per_queue", "most per queue"),
            ],
        ),
        Panel(
            title="Messages without a consumer",
            description="Ready messages of actions that nobody consumes. Start a worker, or stop sending.",
            queries=[
                Query(
                    expr=f"sum by (modulo, acao) (rabbitmq_detailed_queue_messages_ready{{{_ACTIONS}}}) > 0"
                    f" unless sum by (modulo, acao) (rabbitmq_detailed_queue_consumers{{{_ACTIONS}}}) > 0",
                    name=_NAME,
                    may_be_empty=True,
                )
            ],
        ),
    ],
)

_ROUTING: Final = Row(
    title="Routing",
    panels=[
        Panel(
            title="Mode",
            description="What the tenant's routing model may do. Without one the rules decide. See docs/routing.md.",
            kind="table",
            columns=["mode=Mode"],
            queries=[Query(expr=f"max by (mode) (kryonix_routing_mode{{{_T}}}) > 0", name="", may_be_empty=True)],
            width=4,
        ),
        Panel(
            title="Model's age",
            description="Time since the model in use was trained. An old one knows the messages of that time only.",
            kind="stat",
            unit="s",
            queries=[
                Query(
                    expr=f"time() - max(kryonix_routing_model_made_timestamp_seconds{{{_T}}})",
                    name="Model's age",
                    may_be_empty=True,
                )
            ],
            width=4,
        ),
        Panel(
            title="Wait by priority, 95th percentile",
            description="High priorities wait least if the order helps. Needs `kryonix:receiveTime`.",
            unit="s",
            queries=[Query(expr=_waits(0.95, "priority"), name="{{priority}}")],
            width=8,
        ),
        Panel(
            title="Wait, median",
            description="Half of an action's messages wait no longer. Compare it with the 95th percentile above.",
            unit="s",
            queries=[Query(expr=_waits(0.5, "modulo, acao"), name=_NAME)],
            width=8,
        ),
    ],
)

_FAILURES: Final = Row(
    title="Failures",
    panels=[
        Panel(
            title="Messages in dead-letter queues",
            description="Messages whose retries are used up, per action that has any.",
            queries=[
                Query(
                    expr=f"sum by (modulo, acao) (rabbitmq_detailed_queue_messages{{{_DEAD}}}) > 0",
                    name=_NAME,
                    may_be_empty=True,
                )
            ],
            width=8,
        ),
        Panel(
            title="Redelivered",
            description="Deliveries after a failure or a lost consumer. Many of them: a handler fails again and again.",
            unit="mps",
            queries=[
                Query(
                    expr="sum by (modulo, acao)"
                    f" (rate(rabbitmq_detailed_queue_messages_redelivered_total{{{_ACTIONS}}}[$__rate_interval]))",
                    name=_NAME,
                )
            ],
            width=8,
        ),
        Panel(
            title="Unrouted",
            description="Messages held that matched no binding: a wrong key, or a module that the tenant lacks.",
            queries=[Query(expr=f"sum(rabbitmq_detailed_queue_messages{{{_UNROUTED}}})", name="held")],
            width=8,
        ),
    ],
)

_WORKERS: Final = Row(
    title="Workers",
    panels=[
        Panel(
            title="Handled",
            description="Messages by the handler's outcome.",
            unit="mps",
            queries=[
                Query(
                    expr=f"sum by (outcome) (rate(kryonix_worker_messages_total{{{_ROUTE}}}[$__rate_interval]))",
                    name="{{outcome}}",
                )
            ],
            stacked=True,
        ),
        Panel(
            title="Time in the handler, 95th percentile",
            description="How long the application's function takes for a message.",
            unit="s",
            queries=[
                Query(
                    expr="histogram_quantile(0.95, sum by (le, modulo, acao)"
                    f" (rate(kryonix_worker_handler_seconds_bucket{{{_ROUTE}}}[$__rate_interval])))",
                    name=_NAME,
                )
            ],
        ),
    ],
)

_LIMITS: Final = Row(
    title="Limits",
    panels=[
        Panel(
            title="Connections",
            description="Open connections. Dashed: the plan's limit.",
            queries=[
                Query(expr=f"max(kryonix_tenant_connections{{{_T}}})", name="open"),
                _limit("connections", "limit"),
            ],
            width=8,
        ),
        Panel(
            title="Channels",
            description="Open channels. Dashed: the plan's limit.",
            queries=[
                Query(expr=f"max(kryonix_tenant_channels{{{_T}}})", name="open"),
                _limit("channels", "limit"),
            ],
            width=8,
        ),
        Panel(
            title="Larger plans",
            description="Per limit, the smallest larger plan that fits the tenant's modules and use.",
            kind="table",
            columns=["resource=Limit", "plano=Plan"],
            queries=[
                Query(
                    expr=f"max by (resource, plano) (kryonix_tenant_larger_plan{{{_T}}})",
                    name="Value",
                    may_be_empty=True,
                )
            ],
            width=8,
        ),
    ],
)

TENANT: Final = Dashboard(
    name="tenant",
    title="Kryonix: one tenant",
    description="Depth, rates, waits, failures, limits and alerts of one tenant.",
    variables=[
        Variable(name="cliente_id", label="Tenant", query="label_values(kryonix_tenant_info, cliente_id)"),
        Variable(
            name="modulo",
            label="Module",
            query='label_values(rabbitmq_detailed_queue_consumers{cliente_id="$cliente_id"}, modulo)',
            several=True,
        ),
    ],
    alerts=f'ALERTS{{{_T}, alertstate="firing"}}',
    rows=[_NOW, _MESSAGES, _ROUTING, _FAILURES, _WORKERS, _LIMITS],
)
