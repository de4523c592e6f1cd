"""GrafanaContainer: dashboards of the fleet, of one tenant, of the broker and of the signup service."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

import pulumi

from components.monitoring_server import (
    PASSWORD_FILE,
    USERNAME,
    MonitoringServer,
    MonitoringServerArgs,
    Server,
    read_files,
)
from components.prometheus import INSIDE

_FOLDER: Final = "/etc/grafana"
_MEMORY_MB: Final = 512


@dataclass(frozen=True, kw_only=True)
class GrafanaContainerArgs(MonitoringServerArgs):
    """A server's arguments, and the password of Grafana's own user `admin`."""

    admin_password: pulumi.Input[str]


class GrafanaContainer(MonitoringServer):
    """The server, with Prometheus and the dashboards provisioned. It always requires its own login."""

    def __init__(self, name: str, args: GrafanaContainerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kryonix:messaging:GrafanaContainer", name, None, opts)
        server = Server(
            role="grafana",
            image=args.settings.grafana_image,
            port=3000,
            published=args.settings.grafana_port,
            memory_mb=_MEMORY_MB,
            user="472:0",
            folder=_FOLDER,
            data="/var/lib/grafana",
            health="/api/health",
            environment={
                "GF_SECURITY_ADMIN_PASSWORD__FILE": f"{_FOLDER}/admin_password",
                "GF_SERVER_ROOT_URL": args.url,
                "GF_USERS_ALLOW_SIGN_UP": "false",
                # It asks no server of its maker.
                "GF_ANALYTICS_REPORTING_ENABLED": "false",
                "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
                "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
            },
        )
        self._run(name, args, server, _files(args))
        self.register_outputs({"container_id": self.container.id})


def _files(args: GrafanaContainerArgs) -> dict[str, pulumi.Input[str]]:
    return {
        **read_files("dashboards/*.json"),
        "admin_password": pulumi.Output.secret(args.admin_password),
        "provisioning/datasources/kryonix.yaml": json.dumps(_DATASOURCES, indent=1),
        "provisioning/dashboards/kryonix.yaml": json.dumps(_PROVIDERS, indent=1),
    }


# YAML is a superset of JSON.
_DATASOURCES: Final = {
    "apiVersion": 1,
    "datasources": [
        {
            "name": "Prometheus",
            "uid": "prometheus",
            "type": "prometheus",
            "access": "proxy",
            "url": INSIDE,
            "isDefault": True,
            "basicAuth": True,
            "basicAuthUser": USERNAME,
            "secureJsonData": {"basicAuthPassword": f"$__file{{{_FOLDER}/{PASSWORD_FILE}}}"},
            "jsonData": {"timeInterval": "15s"},
        }
    ],
}
_PROVIDERS: Final = {
    "apiVersion": 1,
    "providers": [
        {
            "name": "kryonix",
            "folder": "Kryonix",
            "type": "file",
            "allowUiUpdates": False,
            "options": {"path": f"{_FOLDER}/dashboards"},
        }
    ],
}
