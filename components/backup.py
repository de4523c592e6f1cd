"""Backup: a container that backs up the platform and its tenants daily, with accounts of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_docker as docker
import pulumi_rabbitmq as rabbitmq
import pulumi_random as random

from components.backup_expectation import BackupExpectation
from components.backup_settings import BackupSettings
from components.containers import container_name
from components.exporter_container import platform_file
from components.platform import Platform
from components.product import ProductSettings
from components.product_container import FILES, PLATFORM_FILE, ProductContainer, ProductContainerArgs, touched
from components.signup_service import STATE, state_volume
from kryonix.topology.credentials import PASSWORD_LENGTH

_USER: Final = "kryonix-backup"
_RECIPIENTS_FILE: Final = f"{FILES}/recipients"
_STORE_FILE: Final = f"{FILES}/backup_store.json"
_KEYS: Final = "/var/lib/kryonix-backup"
_ALIVE: Final = "/tmp/alive"  # noqa: S108, a folder of the container's own
_HANGS_S: Final = 120
_MEMORY_MB: Final = 512


@dataclass(frozen=True, kw_only=True)
class BackupArgs:
    """When bundles are made and where they go, this stack's platform, and the image."""

    settings: BackupSettings
    platform: Platform
    product: ProductSettings


class Backup(pulumi.ComponentResource):
    """The schedule in a container, and its user on the broker.

    The user is an administrator without permissions in any vhost: a lesser one can read no definitions. The container
    has a key of its own on a volume that this stack never deletes, and encrypts the bundles for it too, so that it can
    verify them.
    """

    container: docker.Container

    def __init__(self, name: str, args: BackupArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("kryonix:messaging:Backup", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        password = random.RandomPassword(f"{name}-password", length=PASSWORD_LENGTH, special=False, opts=child).result
        outputs = args.platform.outputs
        lasting = pulumi.ResourceOptions(parent=self, delete_before_replace=True, deleted_with=outputs.data)
        user = rabbitmq.User(f"{name}-user", name=_USER, password=password, tags=["administrator"], opts=lasting)
        expected = BackupExpectation(f"{name}-expectation", registry_dsn=outputs.registry_dsn, opts=lasting)
        container = ProductContainerArgs(
            product=args.product,
            role="backup",
            command=_command(args.settings),
            networks=[args.platform.broker_network, args.platform.registry_network],
            files=_files(args, password),
            healthy=touched(_ALIVE, _HANGS_S),
            memory_mb=_MEMORY_MB,
            environment={"KRYONIX_PLATFORM_FILE": PLATFORM_FILE, **_store(args.settings)},
            volumes={_KEYS: container_name("backup-keys")},
            mounts=_mounts(args),
        )
        after = pulumi.ResourceOptions(parent=self, depends_on=[user, expected])
        self.container = ProductContainer(name, container, after).container
        self.register_outputs({"container_id": self.container.id})


def _command(settings: BackupSettings) -> list[str]:
    keys = ["--recipient", _RECIPIENTS_FILE, "--identity", f"{_KEYS}/identity"]
    return ["backup", "schedule", "--stack", pulumi.get_stack(), *settings.options, *keys, "--alive-file", _ALIVE]


def _files(args: BackupArgs, password: pulumi.Output[str]) -> Mapping[str, pulumi.Input[str]]:
    known: dict[str, pulumi.Input[Any]] = {
        "admin_username": _USER,
        "admin_password": password,
        "registry_dsn": args.platform.inside.backup_dsn,
        "signup_dsn": args.platform.inside.backup_dsn,
        **args.platform.inside.broker,
    }
    files: dict[str, pulumi.Input[str]] = {
        **args.platform.inside.trust_files,
        PLATFORM_FILE: platform_file(known),
        _RECIPIENTS_FILE: "".join(f"{recipient}\n" for recipient in args.settings.recipients),
    }
    if args.settings.credentials:
        files[_STORE_FILE] = pulumi.Output.secret(args.settings.credentials)
    return files


def _store(settings: BackupSettings) -> Mapping[str, str]:
    return {"KRYONIX_BACKUP_STORE_FILE": _STORE_FILE} if settings.credentials else {}


def _mounts(args: BackupArgs) -> list[docker.ContainerVolumeArgs]:
    """Return the folder of the bundles, at the path that operators know, and the state of the tenants' stacks."""
    mounts = []
    if folder := args.settings.folder:
        mounts.append(docker.ContainerVolumeArgs(host_path=folder, container_path=folder))
    if args.product.signup:
        mounts.append(docker.ContainerVolumeArgs(volume_name=state_volume(), container_path=STATE, read_only=True))
    return mounts
