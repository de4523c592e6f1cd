"""AlertmanagerContainer: who is notified of which alert."""

from __future__ import annotations

from typing import Any, Final

import pulumi
import pulumi_docker as docker
import yaml

from components.monitoring_server import FILES, MonitoringServer, MonitoringServerArgs, Server, web_options
from components.monitoring_settings import MonitoringSettings

INSIDE: Final = "http://alertmanager:9093"
"""The server for containers on its network."""
FOLDER: Final = "/etc/alertmanager"
OWNER: Final = "65534:65534"
"""The user that a new volume in the folder belongs to: the image's folder does."""

_MEMORY_MB: Final = 256


class AlertmanagerContainer(MonitoringServer):
    """The server.

    Its configuration lies in the volume `config`, which the exporter shares: that puts the tenants' own receivers into
    `alertmanager.yml`, on the basis of `base.yml`. A new container starts with the base.
    """

    config: docker.Volume

    def __init__(self, name: str, args: MonitoringServerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kryonix:messaging:AlertmanagerContainer", name, None, opts)
        settings = args.settings
        server = Server(
            role="alertmanager",
            image=settings.alertmanager_image,
            port=9093,
            published=settings.alertmanager_port,
            memory_mb=_MEMORY_MB,
            user=OWNER,
            folder=FOLDER,
            data="/alertmanager",
            health="/-/healthy",
            command=[
                f"--config.file={FOLDER}/alertmanager.yml",
                "--storage.path=/alertmanager",
                "--cluster.listen-address=",  # one server has no peers
                *web_options(args, FOLDER),
            ],
        )
        base = pulumi.Output.secret(base_config(settings))
        self.config = self._volume(f"{name}-config", "alertmanager-config")
        self._run(name, args, server, {"base.yml": base, "alertmanager.yml": base}, {FOLDER: self.config})
        self.register_outputs({"container_id": self.container.id, "config_volume": self.config.name})


def base_config(settings: MonitoringSettings) -> str:
    """Return Alertmanager's configuration with the operators' receiver. Tokens and passwords may be in it."""
    config: dict[str, Any] = yaml.safe_load((FILES / "alertmanager.yml").read_text(encoding="utf-8"))
    if settings.smtp_host:
        config["global"] = {
            "smtp_smarthost": settings.smtp_host,
            "smtp_from": settings.smtp_from,
            "smtp_require_tls": settings.smtp_tls,
        }
        if settings.smtp_username:
            login = {"smtp_auth_username": settings.smtp_username, "smtp_auth_password": settings.smtp_password}
            config["global"] |= login
    if settings.alert_webhook:
        (operators,) = config["receivers"]
        operators["webhook_configs"] = [{"url": settings.alert_webhook, "send_resolved": True}]
    return yaml.safe_dump(config, sort_keys=False, width=1000)
