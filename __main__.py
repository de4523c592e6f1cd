"""A stack: a platform with the tenants of tenants.yaml, or one tenant on a platform that is there already."""

from __future__ import annotations

import pulumi
import pulumi_rabbitmq as rabbitmq

from components.existing_platform import ExistingPlatform, PlatformOutputs
from components.previous_run import LAYOUT
from components.settings import Settings
from components.tenant import TenantMessaging, TenantMessagingArgs

settings = Settings.load()
on_platform: list[pulumi.Resource] = []
platform: PlatformOutputs
if settings.platform is not None:
    # Imported here: a tenant's own stack, made while a customer waits, needs neither Docker nor migrations.
    from components.platform import Platform, PlatformArgs

    keep = settings.previous.has_older_layout
    if keep:
        pulumi.log.warn(
            "an older version made this stack, so this run leaves its containers as they are: replaced now, they would "
            "take every queue along. Run `up` once more to bring them to their settings, before you change those"
        )
    args = PlatformArgs(settings=settings.platform, guard=settings.guard(), keep_containers=keep)
    made = Platform("platform", args)
    on_platform.append(made)
    platform = made
else:
    found = ExistingPlatform.load(settings.guard())
    pulumi.export("registry_stack", found.registry_stack)
    platform = found
broker = platform.access

provider = rabbitmq.Provider(
    "broker",
    endpoint=platform.endpoint,
    username=platform.username,
    password=broker.apply(lambda access: access.password),
)
on_broker = pulumi.ResourceOptions(providers=[provider], depends_on=[*platform.ready, provider])

tenants = {
    topology.tenant.id: TenantMessaging(
        topology.tenant.id,
        TenantMessagingArgs(
            topology=topology,
            access=broker,
            admin_username=platform.username,
            registry_dsn=platform.registry_dsn,
            amqp_host=platform.amqp_host,
            amqp_port=platform.amqp_port,
            deletion_protection=settings.deletion_protection,
            allow_delete=settings.allow_delete,
            deleted_with=platform.data,
            protect=settings.protect,
            generations=settings.generations,
            as_sold=settings.as_sold,
        ),
        on_broker,
    )
    for topology in settings.topologies
}

if settings.platform is not None:
    from components.broker_safeguards import BrokerSafeguards, BrokerSafeguardsArgs
    from components.exporter import Exporter, ExporterArgs
    from components.platform_events import PlatformEvents, PlatformEventsArgs
    from components.shared_vhosts import SharedVhosts, SharedVhostsArgs

    metrics = ExporterArgs(endpoint=settings.platform.metrics, advertised_host=settings.platform.advertised_host)
    with_data = pulumi.ResourceOptions.merge(on_broker, pulumi.ResourceOptions(deleted_with=made.data))
    exporter = Exporter("exporter", metrics, with_data)
    pulumi.export("metrics_url", exporter.metrics_url)
    pulumi.export("metrics_username", exporter.username)
    pulumi.export("metrics_password", exporter.password)
    shared = SharedVhosts("shared", SharedVhostsArgs(), with_data)
    told = PlatformEventsArgs(shared=shared, amqp_host=platform.amqp_host, amqp_port=platform.amqp_port)
    events = PlatformEvents("events", told, on_broker)
    pulumi.export("events_uri", events.uri)
    pulumi.export("signup_dsn", made.signup_dsn)
    # A platform's only: who reads the outputs of one tenant's stack gets no administrator.
    pulumi.export("registry_dsn", pulumi.Output.secret(made.registry_dsn))
    pulumi.export("admin_username", platform.username)
    pulumi.export("admin_password", pulumi.Output.secret(broker.apply(lambda access: access.password)))
    on_platform += [exporter, shared, events]
    on_platform += [tenant.safeguards for tenant in tenants.values()]
    held = BrokerSafeguardsArgs(
        access=broker,
        stack=pulumi.get_stack(),
        protected=settings.deletion_protection,
        allow_delete=settings.allow_delete,
    )
    BrokerSafeguards("broker-safeguards", held, pulumi.ResourceOptions(depends_on=on_platform))

    pulumi.export("layout", LAYOUT)

pulumi.export("management_url", platform.management_url)
pulumi.export("amqp_host", platform.amqp_host)
pulumi.export("amqp_port", platform.amqp_port)
pulumi.export("tenants", {name: tenant.summary() for name, tenant in tenants.items()})
