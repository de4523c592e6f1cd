"""ProductServices: the containers of a platform that run from the product's own image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_docker as docker

from components.alertmanager import FOLDER, INSIDE, OWNER
from components.exporter import Exporter
from components.exporter_container import ExporterContainer, ExporterContainerArgs
from components.monitoring import Monitoring
from components.platform import Platform
from components.platform_events import PlatformEvents
from components.platform_inside import BROKER_ADDRESS, amqp_inside, metrics_inside, metrics_targets, nodes_inside
from components.prometheus import INSIDE as PROMETHEUS
from components.prometheus import SIGNUP
from components.settings import PlatformSettings
from components.signup_service import SignupService, SignupServiceArgs
from kryonix.engines.platform_file import ADVERTISED


@dataclass(frozen=True, kw_only=True)
class ProductServicesArgs:
    """The platform with its metrics and events, and its monitoring, None where that is off."""

    settings: PlatformSettings
    platform: Platform
    metrics: Exporter
    events: PlatformEvents
    monitoring: Monitoring | None = None


class ProductServices(pulumi.ComponentResource):
    """The exporter, and with `kryonix:signup` the signup service. `outputs` are the stack's."""

    outputs: dict[str, pulumi.Output[Any]]
    containers: Sequence[pulumi.Resource]

    def __init__(self, name: str, args: ProductServicesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kryonix:messaging:ProductServices", name, None, opts)
        self._name, self._args, self._child = name, args, pulumi.ResourceOptions(parent=self)
        login = {key: args.metrics.outputs[key] for key in ("metrics_username", "metrics_password")}
        metrics: dict[str, pulumi.Input[Any]] = {**login, "metrics_url": metrics_inside(tls=args.settings.tls.on)}
        if args.settings.nodes.elsewhere:
            targets = metrics_targets(nodes_inside(args.settings))
            metrics["metrics_urls"] = [f"https://{target}/metrics" for target in targets]
        exporter = self._exporter(metrics)
        self.outputs, self.containers = {}, [exporter.container]
        if args.settings.product.signup:
            service = self._signup(metrics)
            self.outputs = {"signup_url": service.url}
            self.containers = [*self.containers, *service.containers]
        self.register_outputs(dict(self.outputs))

    def _exporter(self, metrics: Mapping[str, pulumi.Input[Any]]) -> ExporterContainer:
        platform, product = self._args.platform, self._args.settings.product
        known = {"registry_dsn": platform.inside.reader_dsn, **metrics, **platform.inside.broker, **self._watched()}
        exporter = ExporterContainerArgs(
            product=product,
            networks=[platform.broker_network, platform.registry_network, *self._scraped],
            platform=known,
            files=platform.inside.trust_files,
            **self._alertmanager(),
        )
        return ExporterContainer(f"{self._name}-exporter", exporter, self._child)

    def _watched(self) -> Mapping[str, pulumi.Input[Any]]:
        """Return the listeners whose certificates the exporter reads, besides the broker's first and PostgreSQL's."""
        settings = self._args.settings
        if not settings.tls.on:
            return {}
        web = {"signup_url": f"https://{SIGNUP}"} if settings.product.signup else {}
        return {"amqp_addresses": [node.amqp for node in nodes_inside(settings)], **web}

    @property
    def _scraped(self) -> list[docker.Network]:
        return [self._args.monitoring.network] if self._args.monitoring else []

    def _alertmanager(self) -> dict[str, Any]:
        """Let the exporter write Alertmanager's configuration, as the user that owns it."""
        if self._args.monitoring is None:
            return {}
        return {
            "options": ["--alertmanager-config", f"{FOLDER}/alertmanager.yml", "--alertmanager", INSIDE],
            "volumes": {FOLDER: self._args.monitoring.alertmanager_config},
            "user": OWNER,
        }

    def _login(self) -> pulumi.Output[str] | None:
        """Return `username:password` of Prometheus; None if it wants none, or does not run."""
        outputs = self._args.monitoring.outputs if self._args.monitoring else {}
        if "monitoring_password" not in outputs:
            return None
        return pulumi.Output.concat(outputs["monitoring_username"], ":", outputs["monitoring_password"])

    def _signup(self, metrics: Mapping[str, pulumi.Input[Any]]) -> SignupService:
        platform, settings = self._args.platform, self._args.settings
        advertised = {key: getattr(platform.outputs, key) for key in BROKER_ADDRESS}
        if settings.nodes.clustered:
            advertised |= platform.outputs.nodes
        events = self._args.events.uri.apply(amqp_inside)
        known = {
            **platform.inside.outputs,
            **metrics,
            "events_uri": events,
            ADVERTISED: pulumi.Output.all(**advertised),
        }
        service = SignupServiceArgs(
            product=settings.product,
            platform=known,
            broker=platform.broker_network,
            registry=platform.registry_network,
            monitoring=self._scraped,
            prometheus=PROMETHEUS if self._args.monitoring else "",
            prometheus_login=self._login(),
            advertised_host=settings.advertised_host,
            trust_files=platform.inside.trust_files,
            certificate=platform.web_certificate,
        )
        return SignupService(f"{self._name}-signup", service, self._child)
