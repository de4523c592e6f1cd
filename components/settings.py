"""Settings: a stack's config, read and checked before the first resource."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pulumi
from pulumi.runtime.config import CONFIG

from components.backup_settings import BackupSettings
from components.balancer_settings import BalancerSettings
from components.current_address import local_host
from components.errors import InvalidStack
from components.exporter import MetricsEndpoint
from components.guard import Guard
from components.host_settings import HostSettings
from components.monitoring_settings import MonitoringSettings
from components.node_settings import ROLE, NodeSettings
from components.previous_run import PreviousRun
from components.product import ProductSettings
from components.tls_settings import TlsSettings
from kryonix.cluster.growth import SIZES
from kryonix.rabbitmq.counts import BrokerAccess
from kryonix.topology.addresses import host_port, is_loopback, reached_as
from kryonix.topology.capacity import expand_file, expand_within_plans
from kryonix.topology.catalog import parse_catalog
from kryonix.topology.cells import CELLS_FILE
from kryonix.topology.credentials import Generations, parse_generations
from kryonix.topology.document import parse, read
from kryonix.topology.errors import InvalidInput, nearest
from kryonix.topology.expansion import Topology, expand
from kryonix.topology.naming import ADMIN_USER, TENANT_STACK, platform_container
from kryonix.topology.ownership import too_wide
from kryonix.topology.tenants import Tenant, parse_tenant

_PREFIX = "kryonix:"
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
"""A host name or an IPv4 address, as allowed in a URL and in a container's label."""

_PINNED = re.compile(r"[^@]+:[\w][\w.-]{0,127}@sha256:[0-9a-f]{64}")
"""An image with tag and digest. Docker needs no tag, but the Docker provider would read the digest as one."""


@dataclass(frozen=True, kw_only=True)
class PlatformSettings:
    """Settings of this stack's own broker and registry."""

    broker_image: str
    broker_memory_mb: int
    postgres_image: str
    address: str
    advertised_host: str
    amqp_port: int
    management_port: int
    registry_port: int
    metrics: MetricsEndpoint
    domain: str
    receive_time: bool
    balancer: BalancerSettings | None = None
    """None where there is none."""
    broker_nodes: int = 1
    hosts: HostSettings = field(default_factory=HostSettings)
    tls: TlsSettings = field(default_factory=TlsSettings)
    monitoring: MonitoringSettings | None = None
    """None where monitoring is off."""
    product: ProductSettings = field(default_factory=ProductSettings)
    backup: BackupSettings | None = None
    """None where backups are off."""

    def __post_init__(self) -> None:
        sized = self.broker_nodes in SIZES
        ports = {
            "amqpPort": self.amqp_port,
            "managementPort": self.management_port,
            "metricsPort": self.metrics.port,
            "registryPort": self.registry_port,
            **({"balancerPort": self.balancer.port} if self.balancer else {}),
            **(self.nodes.ports if sized else {}),
            **(self.monitoring.ports if self.monitoring else {}),
            **({"signupPort": self.product.port} if self.product.signup else {}),
            **({"acmePort": self.tls.acme.port} if self.tls.acme else {}),
        }
        problems = [
            f"{_place(key, port)}kryonix:{key}: {port} is not a valid port (1-65535)"
            for key, port in ports.items()
            if not 1 <= port <= 65535
        ]
        if len(set(ports.values())) < len(ports):
            listed = ", ".join(f"kryonix:{key} {port}" for key, port in ports.items())
            problems.append(f"two of these are the same port: {listed}. Use a different port for each")
        if not sized:
            remedy = "Use 1, 3 or 5: an even number bears the loss of no more nodes than one fewer does"
            problems.append(f"kryonix:brokerNodes: {self.broker_nodes} is not a valid number of nodes. {remedy}")
        else:
            problems += self.nodes.problems()
            problems += self.hosts.problems(self.broker_nodes, tls=self.tls.on)
        if self.tls.acme and self.hosts:
            remedy = "Use kryonix:certificateDir there, or a proxy in front that ends TLS"
            problems.append(
                f"kryonix:acmeDirectory: the CA's challenge reaches one machine, kryonix:hosts are several. {remedy}"
            )
        if self.broker_memory_mb < 512:
            problems.append(f"kryonix:brokerMemoryMb: {self.broker_memory_mb} MiB is too small. Use 512 or more")
        for key, host in (("domain", self.domain), ("advertisedHost", self.advertised_host)):
            if not _HOST.fullmatch(host) and not (key == "advertisedHost" and _is_ipv6(host)):
                problems.append(f"kryonix:{key}: {host!r} is not a valid host name. Use one such as kryonix.com.br")
        images = {
            "brokerImage": self.broker_image,
            "postgresImage": self.postgres_image,
            **({"balancerImage": self.balancer.image} if self.balancer else {}),
            **(self.monitoring.images if self.monitoring else {}),
            "productImage": self.product.image,
        }
        for key, image in images.items():
            if not image or re.search(r"\s", image):
                problems.append(f"kryonix:{key}: {image!r} is not a valid image name. Use NAME:TAG")
            elif "@" in image and not _PINNED.fullmatch(image):
                remedy = "Write NAME:TAG@sha256: and 64 digits of 0-9 and a-f; `scripts/images --digests` prints it"
                problems.append(f"kryonix:{key}: {image!r} is not an image pinned by its digest. {remedy}")
        problems += self.monitoring.problems() if self.monitoring else []
        problems += self.product.problems(pulumi.get_stack())
        problems += self.backup.problems(self.product.cells_elsewhere(pulumi.get_stack())) if self.backup else []
        if problems:
            raise InvalidStack("\n".join(problems))

    @classmethod
    def load(cls, config: pulumi.Config) -> PlatformSettings:
        hosts = HostSettings.load(config)
        # Machines have no address in common, and their loopback is reached from none of the others.
        address = hosts.first.address if hosts else _ip_address(config, "bindAddress")
        metrics = hosts.first.address if hosts else _ip_address(config, "metricsAddress")
        product = ProductSettings(
            image=config.require("productImage"),
            monitored=config.require_bool("monitoring"),
            signup=config.require_bool("signup"),
            address=_ip_address(config, "signupAddress"),
            port=config.require_int("signupPort"),
            cells=_read(CELLS_FILE, "signup").decode() if Path(CELLS_FILE).is_file() else "",
        )
        listening = (address, metrics, *([product.address] if product.signup else []))
        advertised = config.get("advertisedHost") or address
        tls = TlsSettings.load(config, listening, advertised)
        return cls(
            broker_image=config.require("brokerImage"),
            broker_memory_mb=config.require_int("brokerMemoryMb"),
            postgres_image=config.require("postgresImage"),
            address=address,
            advertised_host=advertised,
            amqp_port=config.require_int("amqpPort"),
            management_port=config.require_int("managementPort"),
            registry_port=config.require_int("registryPort"),
            metrics=MetricsEndpoint(address=metrics, port=config.require_int("metricsPort"), tls=tls.on),
            domain=config.require("domain"),
            receive_time=config.require_bool("receiveTime"),
            balancer=BalancerSettings.load(config),
            broker_nodes=config.require_int("brokerNodes"),
            hosts=hosts,
            tls=tls,
            monitoring=MonitoringSettings.load(config, _ip_address(config, "monitoringAddress")),
            product=product,
            backup=BackupSettings.load(config),
        )

    @property
    def local_host(self) -> str:
        """Return the published services' address on this machine."""
        return local_host(self.address)

    @property
    def in_plain_text(self) -> Mapping[str, str]:
        """Return the addresses at which other machines reach services without TLS, by their config keys."""
        addresses = {"bindAddress": self.address, "metricsAddress": self.metrics.address}
        if self.product.signup:
            addresses["signupAddress"] = self.product.address
        return {key: address for key, address in addresses.items() if not (self.tls.on or is_loopback(address))}

    @cached_property
    def nodes(self) -> NodeSettings:
        """Return the nodes of the broker."""
        return NodeSettings.of(
            self.broker_nodes,
            platform_container(pulumi.get_stack(), ROLE),
            local=self.local_host,
            address=self.advertised_host,
            amqp=self.amqp_port,
            management=self.management_port,
            metrics=self.metrics.port,
            tls=self.tls.on,
            hosts=self.hosts.hosts,
        )

    def names_of(self, role: str) -> list[str]:
        """Return the names and addresses in a service's certificate. The first is its name on the networks."""
        nodes = {node.role: node for node in self.nodes}
        found = [role, platform_container(pulumi.get_stack(), role), self.advertised_host, self.local_host]
        if node := nodes.get(role):
            metrics = reached_as(self.metrics.address, self.advertised_host)
            routes = (f"mensagens.{self.domain}", f"painel-mensagens.{self.domain}")
            found += ["rabbitmq", f"rabbitmq-{node.number}", node.local, node.address, metrics, *routes]
        if role == "web":
            found += [local_host(self.product.address)]
        if self.tls.acme and role != "postgres":
            found += self.tls.acme.names
        return list(dict.fromkeys([*found, "localhost", "127.0.0.1", "::1"]))

    def access(
        self, admin_password: pulumi.Input[str], ca_certificate: pulumi.Input[str]
    ) -> pulumi.Output[BrokerAccess]:
        """Return the access to the broker from this machine."""
        several = self.nodes if self.nodes.clustered else ()
        return pulumi.Output.all(admin_password, ca_certificate).apply(
            lambda known: BrokerAccess(
                management_url=self.nodes.first.local_management_url,
                username=ADMIN_USER,
                password=known[0],
                amqp_host=self.nodes.first.local,
                amqp_port=self.nodes.first.amqp_port,
                management_urls=tuple(node.local_management_url for node in several),
                amqp_addresses=tuple(host_port(node.local, node.amqp_port) for node in several),
                amqp_tls=self.tls.on,
                ca_certificate=known[1],
            )
        )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The contents of this stack. Without `platform` it is one tenant on an existing platform."""

    topologies: list[Topology]
    platform: PlatformSettings | None
    deletion_protection: bool
    allow_delete: tuple[str, ...]
    protect: bool
    generations: Generations
    previous: PreviousRun
    as_sold: bool = False
    """True if the one tenant keeps more than its plan allows now, because the catalog has shrunk since it was sold."""

    @classmethod
    def load(cls) -> Settings:
        """Read the stack's config. Raises InvalidStack with all problems."""
        config = pulumi.Config("kryonix")
        _refuse_unknown_keys()
        try:
            topologies = _topologies(config)
            single = bool(config.get_object("tenant"))
            _refuse_missing_tenant(single)
            # A stack of one tenant has neither containers nor a broker of its own.
            previous = PreviousRun(outputs={}) if single else PreviousRun.load()
            platform = None if single else PlatformSettings.load(config)
            if platform is not None:
                platform.hosts.refuse_moves(previous.outputs)
                platform.nodes.refuse_exchanges(previous.outputs)
                platform.tls.refuse_mixture(previous.outputs)
                platform.tls.refuse_unasked(previous.outputs)
                if platform.tls.on and previous.has_older_layout:
                    remedy = 'Run `up` twice with kryonix:tls "false" (docs/platform.md, Stacks of an older version)'
                    raise InvalidStack(f"kryonix:tls: an older version made this stack's containers. {remedy}")
            return cls(
                topologies=topologies,
                platform=platform,
                deletion_protection=config.require_bool("deletionProtection"),
                allow_delete=_allow_delete(config),
                protect=config.require_bool("protect"),
                generations=_generations(config, single),
                previous=previous,
                as_sold=single and _keeps(topologies[0].tenant, config),
            )
        except (InvalidInput, pulumi.ConfigTypeError, pulumi.ConfigMissingError) as error:
            raise InvalidStack(str(error)) from error

    def guard(self) -> Guard:
        return Guard(
            stack=pulumi.get_stack(),
            topologies=self.topologies,
            allow_delete=self.allow_delete,
            whole_broker=self.platform is not None,
            previous=self.previous,
            nodes=self.platform.broker_nodes if self.platform else 0,
        )


def _place(key: str, value: object) -> str:
    """Return `FILE:LINE: ` of a value in the stack's own config file; empty if it is not there."""
    file = Path(f"Pulumi.{pulumi.get_stack()}.yaml")
    path = ("config", f"{_PREFIX}{key}")
    with suppress(OSError, InvalidInput, KeyError, TypeError):
        document, _ = read(file.read_bytes(), file.name)
        if document.at(path) == value:
            return f"{file.name}:{document.line(path)}: "
    return ""


def _allow_delete(config: pulumi.Config) -> tuple[str, ...]:
    entries = tuple(config.require_object("allowDelete"))
    if wide := too_wide(entries):
        raise InvalidStack(
            f"kryonix:allowDelete: {', '.join(map(repr, wide))} would accept the loss of several tenants' messages; an "
            "entry with `*` must start with one tenant's name and a period, as in cliente_acme.*"
        )
    return entries


def _is_ipv6(host: str) -> bool:
    """Return True for an IPv6 address that a URL can have: without brackets of its own, and without a zone."""
    try:
        return ipaddress.ip_address(host).version == 6 and "%" not in host
    except ValueError:
        return False


def _ip_address(config: pulumi.Config, key: str) -> str:
    value = config.require(key)
    with suppress(ValueError):
        if ipaddress.ip_address(value).version == 4 or _is_ipv6(value):
            return value
    remedy = "Use 127.0.0.1 for this machine only, or 0.0.0.0 for all networks"
    raise InvalidStack(f"kryonix:{key}: {value!r} is not a valid IP address. {remedy}")


def _topologies(config: pulumi.Config) -> list[Topology]:
    catalog_file, tenants_file = config.require("catalogFile"), config.require("tenantsFile")
    catalog = parse_catalog(_read(catalog_file, "catalogFile"), catalog_file)
    single = config.get_object("tenant")
    if not single:
        return expand_file(_read(tenants_file, "tenantsFile"), tenants_file, catalog)
    source = f"Pulumi.{pulumi.get_stack()}.yaml kryonix:tenant"
    tenant = parse_tenant(single, source, catalog)
    if tenant.status == "suspended" or _keeps(tenant, config):
        # The catalog may have shrunk since: suspending, offboarding, dropping credentials and repairs stay possible.
        return [expand(tenant, catalog)]
    return expand_within_plans([tenant], catalog, source)


def _keeps(tenant: Tenant, config: pulumi.Config) -> bool:
    """Return True if a tenant has only modules that it was sold."""
    sold = config.get_object("sold") or []
    return bool(sold) and set(tenant.modules) <= set(sold)


def _refuse_missing_tenant(single: bool) -> None:
    """Refuse a tenant's stack without its config: it would become a platform, and its unlisted tenant be removed."""
    stack = pulumi.get_stack()
    if stack.startswith(TENANT_STACK) and not single:
        remedy = "Run `kryonix tenant converge`, which reads it from the registry, or set kryonix:tenant"
        raise InvalidStack(f"the stack {stack!r} belongs to a tenant, but kryonix:tenant is not set. {remedy}")


def _generations(config: pulumi.Config, single: bool) -> Generations:
    given = config.get_object("credentials")
    if given and not single:
        raise InvalidStack("kryonix:credentials: only a stack of one tenant has generations. Set kryonix:tenant too")
    return parse_generations(given or {}, f"Pulumi.{pulumi.get_stack()}.yaml kryonix:credentials")


def _read(file: str, key: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise InvalidStack(f"kryonix:{key}: {file!r} can't be read: {error.strerror}. Name a file that can") from error


def _refuse_unknown_keys(project: Path = Path("Pulumi.yaml")) -> None:
    """Raise InvalidStack with every key of this stack's config that `project` does not declare."""
    declared = [f"{_PREFIX}{key}" for key in parse(project.read_bytes(), project.name).value["config"]]
    given = {**pulumi.runtime.get_config_env(), **CONFIG.get()}
    unknown = sorted(key for key in given if key.startswith(_PREFIX) and key not in declared)
    if unknown:
        raise InvalidStack(
            "\n".join(f"{key}: not a config key of this project; {nearest(key, declared)}" for key in unknown)
        )
