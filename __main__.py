"""A stack: a platform with the tenants of tenants.yaml, or one tenant on a platform that is there already."""

from __future__ import annotations

import pulumi
import pulumi_rabbitmq as rabbitmq

from components.existing_platform import ExistingPlatform, PlatformOutputs
from components.registry_check import answering
from components.settings import Settings
from components.tenant import TenantMessaging, TenantMessagingArgs

settings = Settings.load()
on_platform: list[pulumi.Resource] = []
platform: PlatformOutputs
if settings.platform is not None:
    # Imported here: a tenant's own stack, made while a customer waits, needs neither Docker nor migrations.
    from components.platform import Platform, PlatformArgs

    made = Platform("platform", PlatformArgs(settings=settings.platform, guard=settings.guard()))
    on_platform.append(made)
    platform = made
else:
    platform = ExistingPlatform.load(settings.guard())
broker = platform.access

provider = rabbitmq.Provider(
    "broker",
    endpoint=pulumi.Output.unsecret(broker.apply(lambda access: access.management_url)),
    username=pulumi.Output.unsecret(broker.apply(lambda access: access.username)),
    password=broker.apply(lambda access: access.password),
)
registry_dsn = answering(platform.registry_dsn)
on_broker = pulumi.ResourceOptions(providers=[provider])

tenants = {
    topology.tenant.id: TenantMessaging(
        topology.tenant.id,
        TenantMessagingArgs(
            topology=topology,
            access=broker,
            registry_dsn=registry_dsn,
            amqp_host=platform.amqp_host,
            amqp_port=platform.amqp_port,
            deletion_protection=settings.deletion_protection,
            allow_delete=settings.allow_delete,
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
    exporter = Exporter("exporter", metrics, on_broker)
    pulumi.export("metrics_url", exporter.metrics_url)
    pulumi.export("metrics_username", exporter.username)
    pulumi.export("metrics_password", exporter.password)
    shared = SharedVhosts("shared", SharedVhostsArgs(), on_broker)
    told = PlatformEventsArgs(shared=shared, amqp_host=platform.amqp_host, amqp_port=platform.amqp_port)
    events = PlatformEvents("events", told, on_broker)
    pulumi.export("events_uri", events.uri)
    pulumi.export("signup_dsn", made.signup_dsn)
    on_platform += [exporter, shared, events]
    on_platform += [tenant.safeguards for tenant in tenants.values()]
    held = BrokerSafeguardsArgs(
        access=broker,
        stack=pulumi.get_stack(),
        protected=settings.deletion_protection,
        allow_delete=settings.allow_delete,
    )
    BrokerSafeguards("broker-safeguards", held, pulumi.ResourceOptions(depends_on=on_platform))

pulumi.export("management_url", platform.management_url)
pulumi.export("amqp_host", platform.amqp_host)
pulumi.export("amqp_port", platform.amqp_port)
pulumi.export("registry_dsn", pulumi.Output.secret(platform.registry_dsn))
pulumi.export("admin_username", pulumi.Output.unsecret(broker.apply(lambda access: access.username)))
pulumi.export("admin_password", pulumi.Output.secret(broker.apply(lambda access: access.password)))
pulumi.export("tenants", {name: tenant.summary() for name, tenant in tenants.items()})
