"""The platform's own vhosts, each with one user. No tenant has access."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kryonix.topology.objects import Permissions


@dataclass(frozen=True, slots=True)
class SharedVhost:
    """A vhost of the platform. Its user's name has a hyphen where a tenant's user has `_`, so they never collide."""

    name: str
    purpose: str
    permissions: Permissions
    tags: tuple[str, ...] = ()

    @property
    def vhost(self) -> str:
        return f"/{self.name}"

    @property
    def user(self) -> str:
        return f"kryonix-{self.name.removeprefix('kryonix-')}"


def _own(prefix: str, *, write: bool = True) -> Permissions:
    pattern = rf"^{prefix}\."
    return Permissions(configure="^$", write=pattern if write else "^$", read=pattern)


SHARED_VHOSTS: Final = (
    SharedVhost("kryonix-master", "Control: the platform's own events and commands", _own("kryonix")),
    SharedVhost("shared-services", "Services that several modules share", _own("shared")),
    SharedVhost(
        "monitoring", "Central metrics: read by monitoring, written by nobody else", _own("metrics"), ("monitoring",)
    ),
    SharedVhost("backup-operations", "Backup and restore jobs", _own("backup")),
)


@dataclass(frozen=True, slots=True)
class EventChannel:
    """The platform's events about its tenants: a topic exchange and the queue behind it.

    `retention_ms` and `max_length` (messages) bound the queue in case nobody reads it.
    """

    vhost: str
    exchange: str
    queue: str
    policy: str
    retention_ms: int
    max_length: int


EVENTS: Final = EventChannel(
    vhost="/kryonix-master",
    exchange="kryonix.events",
    queue="kryonix.events",
    policy="events",
    retention_ms=7 * 24 * 60 * 60 * 1000,
    max_length=100_000,
)
