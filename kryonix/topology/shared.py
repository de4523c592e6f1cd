"""The platform's own vhosts, each with one user. No tenant has access."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kryonix.topology.objects import Exchange, Permissions, Policy, Queue


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


def _own(prefix: str) -> Permissions:
    pattern = rf"^{prefix}\."
    return Permissions(configure="^$", write=pattern, read=pattern)


SHARED_VHOSTS: Final = (
    SharedVhost("kryonix-master", "Control: the platform's own events and commands", _own("kryonix")),
    SharedVhost("shared-services", "Services that several modules share", _own("shared")),
    SharedVhost(
        "monitoring", "Central metrics: read by monitoring, written by nobody else", _own("metrics"), ("monitoring",)
    ),
    SharedVhost("backup-operations", "Backup and restore jobs", _own("backup")),
)

EVENTS_VHOST: Final = "/kryonix-master"
EVENTS_EXCHANGE: Final = Exchange("kryonix.events", "topic")
"""The platform's events about its tenants; the queue keeps them for later consumers."""
EVENTS_QUEUE: Final = Queue("kryonix.events", {"x-queue-type": "quorum"})
EVENTS_POLICY: Final = Policy(
    name="events",
    kind="policy",
    pattern="^kryonix[.]events$",
    priority=1,
    apply_to="queues",
    definition={"message-ttl": 7 * 24 * 60 * 60 * 1000, "max-length": 100_000, "overflow": "drop-head"},
)
"""It bounds the queue in case nobody reads it: 7 days in ms, and 100,000 messages."""
