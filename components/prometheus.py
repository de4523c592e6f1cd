"""PrometheusContainer: the platform's metrics of the last days, and its alert rules."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
import yaml

from components.broker_listeners import PLAIN
from components.monitoring_server import MonitoringServer, MonitoringServerArgs, Server, read_files, web_options

INSIDE: Final = "http://prometheus:9090"
"""The server for containers on its networks."""

SIGNUP: Final = "web:8080"
"""The signup service on its networks."""

_FOLDER: Final = "/etc/prometheus"
_MEMORY_MB: Final = 1024
_BROKERS: Final = f'["rabbitmq:{PLAIN.metrics}"]'
"""The targets in the file, those of a broker of one node."""
_CA_FILE: Final = "ca.pem"
_ENCRYPTED: Final = ("kryonix-broker", "kryonix-tenants", "kryonix-tenant-bytes", "kryonix-signup")
"""Jobs of services whose listeners speak TLS where the platform has it."""


@dataclass(frozen=True, kw_only=True)
class PrometheusContainerArgs(MonitoringServerArgs):
    """A server's arguments, HOST:PORT of the nodes' metrics, their password, and True if there is a signup service."""

    brokers: Sequence[str]
    """HOST:PORT of their metrics, as the container reaches them."""
    metrics_password: pulumi.Input[str]
    signup: bool = False
    trust: pulumi.Input[str] | None = None
    """The CAs of the certificates of what it scrapes, PEM; None for plain text."""


class PrometheusContainer(MonitoringServer):
    """The server."""

    def __init__(self, name: str, args: PrometheusContainerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kryonix:messaging:PrometheusContainer", name, None, opts)
        settings = args.settings
        server = Server(
            role="prometheus",
            image=settings.prometheus_image,
            port=9090,
            published=settings.prometheus_port,
            memory_mb=_MEMORY_MB,
            user="65534:65534",
            folder=_FOLDER,
            data="/prometheus",
            health="/-/healthy",
            command=[
                f"--config.file={_FOLDER}/prometheus.yml",
                "--storage.tsdb.path=/prometheus",
                f"--storage.tsdb.retention.time={settings.retention}",
                *web_options(args, _FOLDER),
            ],
        )
        self._run(name, args, server, _files(args))
        self.register_outputs({"container_id": self.container.id})


def _files(args: PrometheusContainerArgs) -> dict[str, pulumi.Input[str]]:
    return {
        **_configuration(args),
        **read_files("rules/*.yaml"),
        "workers.json": _targets(args.settings.worker_targets),
        "signup.json": _targets([SIGNUP] if args.signup else []),
        "metrics_password": pulumi.Output.secret(args.metrics_password),
    }


def _configuration(args: PrometheusContainerArgs) -> dict[str, pulumi.Input[str]]:
    """Return Prometheus' configuration, and the CAs that it needs."""
    text = read_files("prometheus.yml")["prometheus.yml"].replace(_BROKERS, json.dumps(list(args.brokers)))
    if args.trust is None:
        return {"prometheus.yml": text}
    config = yaml.safe_load(text)
    for job in config["scrape_configs"]:
        if job["job_name"] in _ENCRYPTED:
            job |= {"scheme": "https", "tls_config": {"ca_file": f"{_FOLDER}/{_CA_FILE}", "min_version": "TLS12"}}
    return {"prometheus.yml": yaml.safe_dump(config, sort_keys=False, width=1000), _CA_FILE: args.trust}


def _targets(targets: Sequence[str]) -> str:
    """Return targets as a file of Prometheus' service discovery."""
    return json.dumps([{"targets": list(targets)}] if targets else [])
