"""Monitoring: Prometheus and Alertmanager of a platform, and Grafana where an image is named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_docker as docker
import pulumi_random as random

from components.alertmanager import AlertmanagerContainer
from components.containers import container_name
from components.grafana import GrafanaContainer, GrafanaContainerArgs
from components.monitoring_server import USERNAME, MonitoringServerArgs
from components.monitoring_settings import MonitoringSettings
from components.prometheus import PrometheusContainer, PrometheusContainerArgs
from kryonix.topology.credentials import PASSWORD_LENGTH, bcrypt_hash


@dataclass(frozen=True, kw_only=True)
class MonitoringArgs:
    """The broker's network and nodes, the password for their metrics, and True if there is a signup service."""

    settings: MonitoringSettings
    advertised_host: str
    broker_network: docker.Network
    brokers: Sequence[str]
    metrics_password: pulumi.Input[str]
    signup: bool = False
    trust: pulumi.Input[str] | None = None
    """The CAs of the broker's and the signup service's certificates, PEM; None if they speak plain text."""


class Monitoring(pulumi.ComponentResource):
    """The servers, on a network that exporter and signup service join to be scraped. No message depends on them."""

    network: docker.Network
    alertmanager_config: docker.Volume
    """Where the exporter writes the tenants' receivers."""
    outputs: dict[str, pulumi.Input[Any]]
    """The stack outputs."""

    def __init__(self, name: str, args: MonitoringArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kryonix:messaging:Monitoring", name, None, opts)
        self._name, self._args, self._child = name, args, pulumi.ResourceOptions(parent=self)
        self.network = docker.Network(
            f"{name}-network", name=f"{container_name('monitoring')}-network", driver="bridge", opts=self._child
        )
        password = self._password("password")
        self._login = {"password": password, "web_config": password.apply(_web_config) if self._authenticated else ""}
        prometheus, alertmanager = self._prometheus(), self._alertmanager()
        self.alertmanager_config = alertmanager.config
        self.outputs = {
            "prometheus_url": _once(prometheus.container, self._url(args.settings.prometheus_port)),
            "alertmanager_url": _once(alertmanager.container, self._url(args.settings.alertmanager_port)),
        }
        if self._authenticated:
            self.outputs |= {"monitoring_username": USERNAME, "monitoring_password": password}
        if args.settings.grafana_image:
            self.outputs |= self._grafana()
        self.register_outputs(self.outputs)

    @property
    def _authenticated(self) -> bool:
        return self._args.settings.authenticated

    def _url(self, port: int) -> str:
        return self._args.settings.url(self._args.advertised_host, port)

    def _password(self, what: str) -> pulumi.Output[str]:
        made = random.RandomPassword(f"{self._name}-{what}", length=PASSWORD_LENGTH, special=False, opts=self._child)
        return pulumi.Output.secret(made.result)

    def _prometheus(self) -> PrometheusContainer:
        args = PrometheusContainerArgs(
            settings=self._args.settings,
            networks=[self.network, self._args.broker_network],
            url=self._url(self._args.settings.prometheus_port),
            brokers=self._args.brokers,
            metrics_password=self._args.metrics_password,
            signup=self._args.signup,
            trust=self._args.trust,
            **self._login,
        )
        return PrometheusContainer(f"{self._name}-prometheus", args, self._child)

    def _alertmanager(self) -> AlertmanagerContainer:
        args = MonitoringServerArgs(
            settings=self._args.settings,
            networks=[self.network],
            url=self._url(self._args.settings.alertmanager_port),
            **self._login,
        )
        return AlertmanagerContainer(f"{self._name}-alertmanager", args, self._child)

    def _grafana(self) -> dict[str, pulumi.Input[Any]]:
        url, admin = self._url(self._args.settings.grafana_port), self._password("grafana-password")
        args = GrafanaContainerArgs(
            settings=self._args.settings, networks=[self.network], url=url, admin_password=admin, **self._login
        )
        grafana = GrafanaContainer(f"{self._name}-grafana", args, self._child)
        return {
            "grafana_url": _once(grafana.container, url),
            "grafana_username": "admin",
            "grafana_password": admin,
        }


def _once(container: docker.Container, url: str) -> pulumi.Output[str]:
    """Return a server's URL once it answers."""
    return container.id.apply(lambda _: url)


def _web_config(password: str) -> str:
    """Return the file that makes Prometheus and Alertmanager require the login. YAML is a superset of JSON."""
    return json.dumps({"basic_auth_users": {USERNAME: bcrypt_hash(USERNAME, password)}})
