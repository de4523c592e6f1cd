"""CertificateKeeper: the container that issues, places and renews the certificates of services on its Docker host."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_docker as docker
import pulumi_random as random

from components.acme_settings import AcmeSettings
from components.certificate_authorities import CertificateAuthorities
from components.containers import certificate_volume, container_name
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
_ACME: Final = f"{FOLDER}/acme"
_HANGS_S: Final = 120
_MEMORY_MB: Final = 192
_CAPABILITIES: Final = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER")
"""Each service's files belong to its own user."""
_PRIVILEGED_PORT: Final = "CAP_NET_BIND_SERVICE"


@dataclass(frozen=True, kw_only=True)
class Place:
    """A service's listener with a certificate: its volume, and its address on the networks."""

    role: str
    volume: docker.Volume | None
    host: str
    port: int
    starttls: str = ""
    public: bool = False
    """True if it shows clients that ask for a public name another certificate, where there is one."""


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
        # With its account at the CA outside, and what that has issued: a new container asks for nothing again.
        account = {_ACME: certificate_volume(self, f"{name}-acme", container_name("acme"))} if tls.acme else {}
        own = docker.ContainerVolumeArgs(host_path=tls.certificate_dir, container_path=_OWN, read_only=True)
        container = ProductContainerArgs(
            product=args.settings.product,
            role=args.role,
            command=["certificates", "keep", "--file", _FILE, "--alive-file", _ALIVE],
            networks=args.networks,
            files={_FILE: _document(args, self.password)},
            healthy=touched(_ALIVE, _HANGS_S),
            memory_mb=_MEMORY_MB,
            port=_challenged(args.settings),
            volumes={f"{FOLDER}/{place.role}": place.volume for place in args.places if place.volume} | account,
            mounts=[own] if tls.certificate_dir else [],
            user="0:0",
            adds=(*_CAPABILITIES, *((_PRIVILEGED_PORT,) if tls.acme else ())),
        )
        self.container = ProductContainer(name, container, child).container
        self.register_outputs({"container_id": self.container.id})


def _document(args: CertificateKeeperArgs, password: pulumi.Output[str] | None) -> pulumi.Output[str]:
    """Return the keeper's file, a secret."""
    tls = args.settings.tls
    authorities, issuing = args.authorities, args.authorities.issuing

    def build(known: Sequence[Any]) -> str:
        certificate, key, own, trusted, clients, login = known
        document: dict[str, Any] = {
            "authorities": {
                "issuing": {"certificate": certificate, "key": key},
                "trusted": own if tls.acme else trusted,
                "clients": clients,
            },
            "places": [_described(args, place) for place in args.places],
            "registry_dsn": _dsn(args, login) if login else None,
        }
        if tls.certificate_dir:
            document["source"] = _OWN
        if tls.acme:
            document["acme"] = _acme(tls.acme, tls.certificate_ca)
        return json.dumps(document, sort_keys=True)

    trusts = (authorities.own, authorities.trust, authorities.clients)
    every = pulumi.Output.all(issuing.certificate, issuing.key, *trusts, password)
    return pulumi.Output.secret(every.apply(build))


def _described(args: CertificateKeeperArgs, place: Place) -> dict[str, Any]:
    return {
        "role": place.role,
        "folder": f"{FOLDER}/{place.role}",
        "names": args.settings.names_of(place.role),
        "endpoint": f"{place.host}:{place.port}",
        "starttls": place.starttls,
        **({"public": True} if place.public and args.settings.tls.acme else {}),
    }


def _acme(acme: AcmeSettings, trusted: str) -> dict[str, Any]:
    """Return the file's part on the CA outside. Clients trust `trusted` (PEM)."""
    return {
        "directory": acme.directory,
        "folder": _ACME,
        "names": list(acme.names),
        "contact": acme.contact,
        "port": acme.port,
        "trusted": trusted,
    }


def _challenged(settings: PlatformSettings) -> docker.ContainerPortArgs | None:
    """Return the port on which the CA outside asks for its challenge."""
    if settings.tls.acme is None:
        return None
    port = settings.tls.acme.port
    return docker.ContainerPortArgs(internal=port, ip=settings.address, external=port)


def _dsn(args: CertificateKeeperArgs, password: str) -> str:
    trust = f"sslmode=verify-full&sslrootcert={FOLDER}/postgres/ca.pem"
    return f"postgresql://{DATABASE_USER}:{password}@{args.registry}?{trust}"
