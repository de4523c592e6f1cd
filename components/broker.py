"""BrokerContainer: RabbitMQ 4.3 in Docker, configured by files; it gets the administrator's password as a hash."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pulumi
import pulumi_docker as docker

from components.containers import Service, ServiceArgs, container_name
from kryonix.topology.credentials import rabbitmq_hash
from kryonix.topology.naming import ADMIN_USER

_ROLE = "rabbitmq"
_FILES = Path(__file__).parent / "broker_files"
_MANAGEMENT_PORT, _AMQP_PORT, _METRICS_PORT = 15672, 5672, 15692
_START_TIMEOUT_S = 180
_MIB = 1024 * 1024

_WATERMARK = 0.4
"""Share of the container's memory at which publishers are blocked. The rest is for memory that this does not limit:
answers of the management API, deliveries to slow consumers, and messages that arrive before the alarm."""
_LOG_SHARE = 1 / 16
"""Share of the quorum queues' write-ahead log, which stays in memory until it is written to segments."""
_DISK_SPARE_MB = 2048
"""Free disk space at which publishers are blocked, in addition to the broker's memory, which it may still write.
PostgreSQL, on the same disk, uses up to 1 GiB for its own log."""

_RECEIVE_TIME = "message_interceptors.incoming.set_header_timestamp.overwrite = false\n"
"""Adds the header `timestamp_in_ms` to messages without one. With `true` the broker would also replace the property
`timestamp`, which is the sender's. A tenant that writes the header itself changes only its own figures."""

# Sends the protocol header and waits for the answer. `rabbitmq-diagnostics` would start an Erlang VM each time.
_HEALTH = "exec 3<>/dev/tcp/127.0.0.1/5672 && printf 'AMQP\\x00\\x00\\x09\\x01' >&3 && head -c 1 <&3 | grep -q ."


@dataclass(frozen=True, kw_only=True)
class BrokerContainerArgs(ServiceArgs):
    """A service's arguments, and the password of the broker's administrator."""

    admin_password: pulumi.Input[str]


class BrokerContainer(Service):
    """The broker."""

    def __init__(self, name: str, args: BrokerContainerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kryonix:messaging:BrokerContainer", name, None, opts)
        self._settings = args.settings
        self._run(
            name,
            _ROLE,
            args,
            memory_mb=args.settings.broker_memory_mb,
            data="/var/lib/rabbitmq",
            image=args.settings.broker_image,
            ports=self._ports(),
            uploads=self._uploads(args.admin_password),
            labels=self._labels(),
            # The root filesystem can't be read-only: Docker uploads no files into such a container.
            healthcheck=docker.ContainerHealthcheckArgs(
                tests=["CMD", "bash", "-c", _HEALTH], interval="5s", timeout="5s", retries=24, start_period="1m0s"
            ),
            wait_timeout=_START_TIMEOUT_S,
        )
        self.register_outputs({"container_id": self.container.id, "network_name": self.network.name})

    def _ports(self) -> list[docker.ContainerPortArgs]:
        settings = self._settings
        published = (
            (_AMQP_PORT, settings.address, settings.amqp_port),
            (_MANAGEMENT_PORT, settings.address, settings.management_port),
            (_METRICS_PORT, settings.metrics.address, settings.metrics.port),
        )
        return [docker.ContainerPortArgs(internal=inside, ip=ip, external=port) for inside, ip, port in published]

    def _uploads(self, admin_password: pulumi.Input[str]) -> list[docker.ContainerUploadArgs]:
        settings = self._settings
        files: dict[str, pulumi.Input[str]] = {
            "rabbitmq.conf": (_FILES / "rabbitmq.conf").read_text(encoding="utf-8")
            + settings.metrics.broker_settings
            + (_RECEIVE_TIME if settings.receive_time else "")
            + _memory_settings(settings.broker_memory_mb),
            "enabled_plugins": (_FILES / "enabled_plugins").read_text(encoding="utf-8"),
            "definitions.json": pulumi.Output.from_input(admin_password).apply(_definitions),
        }
        return [docker.ContainerUploadArgs(file=f"/etc/rabbitmq/{file}", content=text) for file, text in files.items()]

    def _labels(self) -> list[docker.ContainerLabelArgs]:
        """Return Traefik's labels: AMQP over TLS at mensagens.DOMAIN, the management UI at painel-mensagens.DOMAIN."""
        domain, router = self._settings.domain, container_name(_ROLE)
        tcp, http = f"traefik.tcp.routers.{router}", f"traefik.http.routers.{router}-mgmt"
        labels = {
            "traefik.enable": "true",
            f"{tcp}.rule": f"HostSNI(`mensagens.{domain}`)",
            f"{tcp}.entrypoints": "amqps",
            f"{tcp}.tls.certresolver": "letsencrypt",
            f"traefik.tcp.services.{router}.loadbalancer.server.port": str(_AMQP_PORT),
            f"{http}.rule": f"Host(`painel-mensagens.{domain}`)",
            f"{http}.entrypoints": "websecure",
            f"{http}.tls.certresolver": "letsencrypt",
            f"traefik.http.services.{router}-mgmt.loadbalancer.server.port": str(_MANAGEMENT_PORT),
        }
        return [docker.ContainerLabelArgs(label=label, value=value) for label, value in sorted(labels.items())]


def _memory_settings(memory_mb: int) -> str:
    """Return limits for the container's memory: by default the broker uses the host's."""
    limits = {
        "vm_memory_high_watermark.absolute": int(_WATERMARK * memory_mb * _MIB),
        "raft.wal_max_size_bytes": int(_LOG_SHARE * memory_mb * _MIB),
        "disk_free_limit.absolute": (memory_mb + _DISK_SPARE_MB) * _MIB,
    }
    return "".join(f"{key} = {value}\n" for key, value in limits.items())


def _definitions(password: str) -> str:
    """Return the definitions that the broker loads at every start: its administrator, as a hash."""
    user = {
        "name": ADMIN_USER,
        "password_hash": rabbitmq_hash(ADMIN_USER, password),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": ["administrator"],
    }
    permission = {"user": ADMIN_USER, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
    definitions = {"users": [user], "vhosts": [{"name": "/"}], "permissions": [permission]}
    return json.dumps(definitions, sort_keys=True, indent=1)
