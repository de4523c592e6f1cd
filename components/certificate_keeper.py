"""CertificateKeeper: the container that issues, places and renews the certificates of services on its Docker host."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_docker as docker
import pulumi_random as random

from components.certificate_authorities import CertificateAuthorities
from components.product_container import FILES, ProductContainer, ProductContainerArgs, touched
from components.settings import PlatformSettings
from components.tls_settings import FOLDER
from kryonix.topology.credentials import PASSWORD_LENGTH

ROLE: Final = "keeper"
DATABASE_USER: Final = "kryonix_keeper"
"""The role that lets PostgreSQL load a renewed certificate."""

_FILE: Final = f"{FILES}/certificates.json"
_ALIVE: Final = "/tmp/alive"  # noqa: S108, a folder of the container's own
_OWN: Final = f"{FOLDER}/own"
_HANGS_S: Final = 120
_MEMORY_MB: Final = 192
_CAPABILITIES: Final = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER")
"""Each service's files belong to its own user."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A service's listener with a certificate: its volume, and its address on the networks."""

    role: str
    volume: docker.Volume | None
    host: str
    port: int
    starttls: str = ""


@dataclass(frozen=True, kw_only=True)
class CertificateKeeperArgs:
    """The platform's settings, its authorities, the places, and the networks on which to reach them.

    `registry` is the registry's address on its network, as HOST:PORT/DATABASE; empty for a keeper without a database.
    """

    settings: PlatformSettings
    authorities: CertificateAuthorities
    places: Sequence[Place]
    networks: Sequence[docker.Network]
    registry: str = ""
    role: str = ROLE


class CertificateKeeper(pulumi.ComponentResource):
    """The keeper of one machine. `password` is that of its role in the database, if it has one.

    It runs as root, and may do no more than write files of other users. Its file holds the key of the issuing CA.
    """

    password: pulumi.Output[str] | None = None
    container: docker.Container

    def __init__(self, name: str, args: CertificateKeeperArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kryonix:messaging:CertificateKeeper", name, None, opts)
        child, tls = pulumi.ResourceOptions(parent=self), args.settings.tls
        if args.registry:
            # A database has no roles before it has a certificate.
            secret = random.RandomPassword(f"{name}-password", length=PASSWORD_LENGTH, special=False, opts=child)
            self.password = secret.result
        own = docker.ContainerVolumeArgs(host_path=tls.certificate_dir, container_path=_OWN, read_only=True)
        container = ProductContainerArgs(
            product=args.settings.product,
            role=args.role,
            command=["certificates", "keep", "--file", _FILE, "--alive-file", _ALIVE],
            networks=args.networks,
            files={_FILE: _document(args, self.password)},
            healthy=touched(_ALIVE, _HANGS_S),
            memory_mb=_MEMORY_MB,
            volumes={f"{FOLDER}/{place.role}": place.volume for place in args.places if place.volume},
            mounts=[own] if tls.certificate_dir else [],
            user="0:0",
            adds=_CAPABILITIES,
        )
        self.container = ProductContainer(name, container, child).container
        self.register_outputs({"container_id": self.container.id})


def _document(args: CertificateKeeperArgs, password: pulumi.Output[str] | None) -> pulumi.Output[str]:
    """Return the keeper's file, a secret."""
    tls = args.settings.tls
    authorities, issuing = args.authorities, args.authorities.issuing

    def build(known: Sequence[Any]) -> str:
        certificate, key, trusted, clients, login = known
        document: dict[str, Any] = {
            "authorities": {
                "issuing": {"certificate": certificate, "key": key},
                "trusted": trusted,
                "clients": clients,
            },
            "places": [_described(args, place) for place in args.places],
            "registry_dsn": _dsn(args, login) if login else None,
        }
        if tls.certificate_dir:
            document["source"] = _OWN
        return json.dumps(document, sort_keys=True)

    every = pulumi.Output.all(issuing.certificate, issuing.key, authorities.trust, authorities.clients, password)
    return pulumi.Output.secret(every.apply(build))


def _described(args: CertificateKeeperArgs, place: Place) -> dict[str, Any]:
    return {
        "role": place.role,
        "folder": f"{FOLDER}/{place.role}",
        "names": args.settings.names_of(place.role),
        "endpoint": f"{place.host}:{place.port}",
        "starttls": place.starttls,
    }


def _dsn(args: CertificateKeeperArgs, password: str) -> str:
    trust = f"sslmode=verify-full&sslrootcert={FOLDER}/postgres/ca.pem"
    return f"postgresql://{DATABASE_USER}:{password}@{args.registry}?{trust}"
