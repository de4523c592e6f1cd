"""SignupService: the HTTP service and its worker in containers, for the tenants of this platform."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pulumi
import pulumi_docker as docker

from components.containers import container_name
from components.exporter_container import platform_file
from components.product import ProductSettings
from components.product_container import (
    CA_FILE,
    FILES,
    PLATFORM_FILE,
    ProductContainer,
    ProductContainerArgs,
    answers,
    touched,
)
from components.tls_settings import CERTIFICATE, FOLDER
from kryonix.topology.addresses import host_port, reached_as

PORT: Final = 8080
_DSN_FILE: Final = f"{FILES}/signup_dsn"
_LOGIN_FILE: Final = f"{FILES}/prometheus_login"
STATE: Final = "/var/lib/kryonix"
_TRUST_FILE: Final = f"{FOLDER}/ca.pem"
_LISTEN: Final = ("--workers", "0", "--host", "0.0.0.0")  # noqa: S104, within its networks
_TLS: Final = ("--certificate", CERTIFICATE)
_ALIVE: Final = "/tmp/alive"  # noqa: S108, a folder of the container's own
_WEB_MEMORY_MB: Final = 384
_WORKER_MEMORY_MB: Final = 1024
_HANGS_S: Final = 30


@dataclass(frozen=True, kw_only=True)
class SignupServiceArgs:
    """The platform as its containers reach it, and the networks of broker, registry and Prometheus.

    `advertised_host` is the host name for other machines. `prometheus` is the URL that the page's charts are read from,
    empty for none, and `prometheus_login` is `username:password` if it wants one. With TLS, `trust_files` are the
    files with the CAs that the worker trusts, and `certificate` is the volume with the web's.
    """

    product: ProductSettings
    platform: Mapping[str, pulumi.Input[Any]]
    broker: docker.Network
    registry: docker.Network
    monitoring: Sequence[docker.Network] = ()
    prometheus: str = ""
    prometheus_login: pulumi.Input[str] | None = None
    advertised_host: str
    trust_files: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    certificate: docker.Volume | None = None


class SignupService(pulumi.ComponentResource):
    """The web and a worker.

    The web knows its database only. The worker keeps the state of the tenants' stacks on a volume that Docker makes
    with the container, and that this stack never deletes: the tenants stay when the service is turned off.
    """

    url: pulumi.Output[str]
    containers: Sequence[pulumi.Resource]

    def __init__(self, name: str, args: SignupServiceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kryonix:messaging:SignupService", name, None, opts)
        child, stack = pulumi.ResourceOptions(parent=self), pulumi.get_stack()
        worker = ProductContainer(
            f"{name}-worker",
            ProductContainerArgs(
                product=args.product,
                role="worker",
                command=["signup", "worker", "--stack", stack, "--make-passphrase", "--alive-file", _ALIVE],
                networks=[args.broker, args.registry],
                files={PLATFORM_FILE: platform_file(args.platform), **args.trust_files},
                healthy=touched(_ALIVE, _HANGS_S),
                memory_mb=_WORKER_MEMORY_MB,
                environment={
                    "KRYONIX_PLATFORM_FILE": PLATFORM_FILE,
                    "PULUMI_CONFIG_PASSPHRASE_FILE": f"{STATE}/passphrase",
                },
                volumes={STATE: state_volume()},
            ),
            child,
        )
        # Ready means that a worker runs.
        after = pulumi.ResourceOptions(parent=self, depends_on=[worker.container])
        product, tls = args.product, args.certificate is not None
        dsn = pulumi.Output.secret(args.platform["signup_dsn"])
        if tls:  # beside its certificate, where the CAs change without a new container
            dsn = dsn.apply(lambda known: known.replace(CA_FILE, _TRUST_FILE))
        web = ProductContainer(
            f"{name}-web",
            ProductContainerArgs(
                product=product,
                role="web",
                command=["signup", "serve", "--stack", stack, *_LISTEN, *(_TLS if tls else ())],
                networks=[args.registry, *args.monitoring],
                files={_DSN_FILE: dsn, **_login(args)},
                healthy=answers(PORT, "/readyz", tls=tls),
                memory_mb=_WEB_MEMORY_MB,
                environment={"KRYONIX_SIGNUP_DSN_FILE": _DSN_FILE, **_proxies(product), **_prometheus(args)},
                port=docker.ContainerPortArgs(internal=PORT, ip=product.address, external=product.port),
                volumes={FOLDER: args.certificate} if args.certificate is not None else {},
            ),
            after,
        )
        self.containers = [worker.container, web.container]
        host = reached_as(product.address, args.advertised_host)
        self.url = web.container.id.apply(lambda _: f"{'https' if tls else 'http'}://{host_port(host, product.port)}")
        self.register_outputs({"url": self.url})


def state_volume() -> str:
    """Return the name of the volume with the state of the tenants' stacks."""
    return f"{container_name('signup')}-state"


def _login(args: SignupServiceArgs) -> dict[str, pulumi.Input[str]]:
    return {} if args.prometheus_login is None else {_LOGIN_FILE: pulumi.Output.secret(args.prometheus_login)}


def _prometheus(args: SignupServiceArgs) -> dict[str, str]:
    if not args.prometheus:
        return {}
    login = {} if args.prometheus_login is None else {"KRYONIX_PROMETHEUS_LOGIN_FILE": _LOGIN_FILE}
    return {"KRYONIX_PROMETHEUS_URL": args.prometheus, **login}


def _proxies(product: ProductSettings) -> dict[str, str]:
    """Trust the X-Forwarded-For of this machine's proxy: on loopback nobody else can send one.

    Docker hides its address: a request comes from the network's gateway.
    """
    return {} if product.exposed else {"FORWARDED_ALLOW_IPS": "*"}
