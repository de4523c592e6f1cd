"""A stack: a platform with the tenants of tenants.yaml, or one tenant on an existing platform."""

from __future__ import annotations

from typing import Any

import pulumi
import pulumi_rabbitmq as rabbitmq

from components.existing_platform import ExistingPlatform, PlatformOutputs
from components.settings import Settings
from components.tenant import TenantMessaging, TenantMessagingArgs

settings = Settings.load()
outputs: dict[str, Any]
platform: PlatformOutputs
if settings.platform is None:
    existing = platform = ExistingPlatform.load(settings.guard())
    outputs = {"registry_stack": existing.registry_stack}
else:
    # Imported here: a tenant's own stack, created while a customer waits, needs neither Docker nor migrations.
    from components.docker_daemons import docker_daemons, on_machine
    from components.platform import Platform, PlatformArgs

    daemons = docker_daemons(settings.platform.hosts)
    first = on_machine(daemons, 1)
    args = PlatformArgs(settings=settings.platform, guard=settings.guard(), previous=settings.previous, daemons=daemons)
    own = Platform("platform", args, first)
    platform, outputs = own.outputs, own.administration

provider = rabbitmq.Provider(
    "broker",
    endpoint=platform.endpoint,
    username=platform.username,
    password=platform.access.apply(lambda access: access.password),
    cacert_file=platform.trust_file,
)
on_broker = pulumi.ResourceOptions(providers=[provider], depends_on=[*platform.ready, provider])
tenants = {
    topology.tenant.id: TenantMessaging(
        topology.tenant.id, TenantMessagingArgs(topology=topology, platform=platform, settings=settings), on_broker
    )
    for topology in settings.topologies
}

if settings.platform is not None:
    from components.broker_safeguards import BrokerSafeguards
    from components.exporter import Exporter, ExporterArgs
    from components.platform_events import PlatformEvents, PlatformEventsArgs
    from components.platform_inside import metrics_targets, nodes_inside
    from components.shared_vhosts import SharedVhosts

    with_data = pulumi.ResourceOptions.merge(on_broker, pulumi.ResourceOptions(deleted_with=platform.data))
    metrics = ExporterArgs(
        endpoint=settings.platform.metrics,
        advertised_host=settings.platform.advertised_host,
        nodes=settings.platform.nodes,
    )
    exporter = Exporter("exporter", metrics, with_data)
    shared = SharedVhosts("shared", with_data)
    events = PlatformEvents("events", PlatformEventsArgs(shared=shared, platform=platform), on_broker)
    outputs |= {**exporter.outputs, "events_uri": events.uri}
    services: list[pulumi.Resource] = []
    monitoring = None
    if settings.platform.monitoring is not None:
        from components.monitoring import Monitoring, MonitoringArgs

        watched = MonitoringArgs(
            settings=settings.platform.monitoring,
            advertised_host=settings.platform.advertised_host,
            broker_network=own.broker_network,
            brokers=metrics_targets(nodes_inside(settings.platform)),
            metrics_password=exporter.outputs["metrics_password"],
            signup=settings.platform.product.signup,
            trust=platform.ca_certificate if settings.platform.tls.on else None,
        )
        monitoring = Monitoring("monitoring", watched, first)
        services, outputs = [monitoring], outputs | monitoring.outputs
    if settings.platform.product.runs:
        from components.product_services import ProductServices, ProductServicesArgs

        running = ProductServicesArgs(
            settings=settings.platform, platform=own, metrics=exporter, events=events, monitoring=monitoring
        )
        after = pulumi.ResourceOptions.merge(
            first, pulumi.ResourceOptions(depends_on=[*platform.ready, events, *services])
        )
        product = ProductServices("services", running, after)
        services, outputs = [*services, product], outputs | product.outputs
    if settings.platform.backup is not None:
        from components.backup import Backup, BackupArgs

        backups = BackupArgs(settings=settings.platform.backup, platform=own, product=settings.platform.product)
        after = pulumi.ResourceOptions.merge(on_broker, pulumi.ResourceOptions(depends_on=services))
        after = pulumi.ResourceOptions.merge(after, first)
        backup = Backup("backup", backups, after)
        services, outputs = [*services, backup], outputs | settings.platform.backup.outputs
    if settings.platform.balancer is not None:
        from components.balancer import Balancer, BalancerArgs

        balanced = BalancerArgs(
            settings=settings.platform.balancer,
            network=own.broker_network,
            nodes=nodes_inside(settings.platform),
            tls=settings.platform.tls.on,
            trust=own.nodes_trust,
            address=settings.platform.address,
            advertised_host=settings.platform.advertised_host,
        )
        after = pulumi.ResourceOptions.merge(first, pulumi.ResourceOptions(depends_on=platform.ready))
        balancer = Balancer("balancer", balanced, after)
        services, outputs = [*services, balancer], outputs | {"balancer_address": balancer.address}
    before = [own, exporter, shared, events, *services, *(tenant.safeguards for tenant in tenants.values())]
    BrokerSafeguards("broker-safeguards", platform.access, settings, pulumi.ResourceOptions(depends_on=before))

outputs |= {"management_url": platform.management_url, "amqp_host": platform.amqp_host, "amqp_port": platform.amqp_port}
outputs |= {"ca_certificate": platform.ca_certificate, **platform.nodes}
for name, value in {**outputs, "tenants": {id: tenant.summary() for id, tenant in tenants.items()}}.items():
    pulumi.export(name, value)
