"""The container of a node: RabbitMQ 4.3, configured by files. It gets the administrator's password as a hash."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pulumi
import pulumi_docker as docker

from components.broker_listeners import BrokerListeners, listeners_of
from components.containers import ENTRYPOINT_CAPABILITIES, Inputs, hardened
from components.node_settings import ROLE, Node, NodeSettings
from components.settings import PlatformSettings
from components.tls_settings import FOLDER
from kryonix.cluster.growth import INTER_NODE_PORTS
from kryonix.topology.credentials import rabbitmq_hash
from kryonix.topology.naming import ADMIN_USER

_FILES = Path(__file__).parent / "broker_files"
_START_TIMEOUT_S = 180
_DATA = "/var/lib/rabbitmq"
_MEMBERS = 3
"""Members of a queue that the broker declares on a cluster of any size, unless told otherwise."""
_DETECTOR_MS = 2_000
_DISCONNECTED_MS = 10_000
_TICK_S = 6
_RECONCILIATION_MS = 5 * 60 * 1000
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


def inputs_digest(node: Node, settings: PlatformSettings) -> str:
    """Return a hash of the inputs of a node's container, except its secrets, before any resource exists."""
    certificate = "certificate" if settings.tls.on else None
    inputs = container_inputs(node, settings, "network", "volume", certificate=certificate, password="", cookie="")
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=vars).encode()).hexdigest()[:16]


def container_inputs(
    node: Node,
    settings: PlatformSettings,
    network: docker.Network | str,
    data: docker.Volume | str,
    *,
    certificate: docker.Volume | str | None = None,
    password: pulumi.Output[str] | str,
    cookie: pulumi.Output[str] | str | None,
) -> Inputs:
    """Return the inputs of a node's container.

    `cookie` is what nodes of a cluster know each other by. `certificate` is a volume, None without TLS.
    """
    clustered, listeners = settings.nodes.clustered, listeners_of(settings.tls)
    return hardened(
        node.container,
        aliases=list(dict.fromkeys((ROLE, settings.nodes.inside[node.number - 1]))),
        hostname=node.container,  # part of the node's name, and so of its data directory's
        networks=[network],
        memory_mb=settings.broker_memory_mb,
        volumes={_DATA: data, **({FOLDER: certificate} if certificate else {})},
        adds=ENTRYPOINT_CAPABILITIES,
        image=settings.broker_image,
        ports=_ports(node, settings),
        uploads=_uploads(settings, password, cookie if clustered else None),
        labels=_labels(settings, listeners),
        # The root filesystem can't be read-only: Docker uploads no files into such a container.
        healthcheck=docker.ContainerHealthcheckArgs(
            tests=["CMD", "bash", "-c", listeners.health], interval="5s", timeout="5s", retries=24, start_period="1m0s"
        ),
        # The nodes of a new cluster wait for each other, so an engine must not wait for one before it starts the next.
        wait=not clustered,
        wait_timeout=_START_TIMEOUT_S,
        **listeners.inputs,
        **_peers(node),
    )


def _peers(node: Node) -> Inputs:
    """Return what maps the names of nodes on other machines to their addresses."""
    hosts = [docker.ContainerHostArgs(host=name, ip=address) for name, address in sorted(node.peers.items())]
    return {"hosts": hosts} if hosts else {}


def _ports(node: Node, settings: PlatformSettings) -> list[docker.ContainerPortArgs]:
    listeners = listeners_of(settings.tls)
    address = node.address if node.peers else settings.address
    published = [
        (listeners.amqp, address, node.amqp_port),
        (listeners.management, address, node.management_port),
        (listeners.metrics, address if node.peers else settings.metrics.address, node.metrics_port),
        *((port, address, port) for port in INTER_NODE_PORTS if node.peers),
    ]
    return [docker.ContainerPortArgs(internal=inside, ip=ip, external=port) for inside, ip, port in published]


def _uploads(
    settings: PlatformSettings, password: pulumi.Output[str] | str, cookie: pulumi.Output[str] | str | None
) -> list[docker.ContainerUploadArgs]:
    listeners = listeners_of(settings.tls)
    definitions = _definitions(password) if isinstance(password, str) else password.apply(_definitions)
    files: dict[str, pulumi.Input[str]] = {
        "rabbitmq.conf": listeners.configuration
        + settings.metrics.broker_settings
        + (_RECEIVE_TIME if settings.receive_time else "")
        + _memory_settings(settings.broker_memory_mb)
        + (_cluster_settings(settings.nodes) if settings.nodes.clustered else ""),
        "enabled_plugins": (_FILES / "enabled_plugins").read_text(encoding="utf-8"),
        "definitions.json": definitions,
        **listeners.more_files,
    }
    uploads = [docker.ContainerUploadArgs(file=f"/etc/rabbitmq/{file}", content=text) for file, text in files.items()]
    if cookie is not None:
        uploads.append(docker.ContainerUploadArgs(file=f"{_DATA}/.erlang.cookie", content=cookie, permissions="0400"))
    return uploads


def _labels(settings: PlatformSettings, listeners: BrokerListeners) -> list[docker.ContainerLabelArgs]:
    """Return Traefik's labels. Those of all nodes are the same, so Traefik shares the connections out among them."""
    labels = listeners.routes(settings.nodes.first.container, settings.domain)
    return [docker.ContainerLabelArgs(label=label, value=value) for label, value in sorted(labels.items())]


def _cluster_settings(nodes: NodeSettings) -> str:
    """Return what a node needs to find the others, and to spread queues over them.

    A list without the node itself, or with one twice, would keep it from starting.
    """
    members = {f"cluster_formation.classic_config.nodes.{node.number}": node.name for node in nodes}
    reconciliation = "quorum_queue.continuous_membership_reconciliation"
    settings: dict[str, str | int] = {
        "cluster_name": nodes.first.container,
        "cluster_formation.peer_discovery_backend": "classic_config",
        **members,
        "cluster_formation.target_cluster_size_hint": len(nodes),
        "queue_leader_locator": "balanced",
        # How soon the others give up a silent node: queues that it leads wait for 4 s, by default (5000) for 7 to 10 s.
        "raft.adaptive_failure_detector.poll_interval": _DETECTOR_MS,
        # How long messages on their way to a consumer on a lost node wait for its return; by default 60 s.
        "consumer_disconnected_timeout": _DISCONNECTED_MS,
        # Until then no node lets a client of a limited tenant in: it asks all of them for the tenant's connections. By
        # default (60) that is a minute for a node whose network is cut. A busy machine stops for seconds, not for 4.5.
        "net_ticktime": _TICK_S,
        # A net below `kryonix cluster grow`: a queue declared while a node was away gets its member later.
        f"{reconciliation}.enabled": "true",
        f"{reconciliation}.auto_remove": "false",
        f"{reconciliation}.interval": _RECONCILIATION_MS,
        f"{reconciliation}.target_group_size": min(len(nodes), _MEMBERS),
    }
    return "".join(f"{key} = {value}\n" for key, value in settings.items())


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
