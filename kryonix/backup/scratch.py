"""Scratch vhosts on a live broker, for verifications, and the removal of those that a killed one has left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from secrets import token_hex
from typing import Final

from kryonix.backup.objects import remove_vhost
from kryonix.rabbitmq.broker import Broker
from kryonix.rabbitmq.client import BrokerUnavailable
from kryonix.registry.scratch import ScratchLocks, scratch_locks

PREFIX: Final = "kryonix-verify-"
"""The prefix of scratch: of vhosts after a slash, and of users."""


def scratch_user(vhost: str, user: str) -> str:
    """Return the name of a user's copy that belongs to a scratch vhost."""
    return f"{vhost.removeprefix('/')}.{user}"


@contextmanager
def scratch_vhost(broker: Broker, registry_dsn: str) -> Iterator[str]:
    """Return the name of a vhost for the block, whatever it makes of it; then delete it with its users.

    Scratch that nobody uses any more is deleted first. A lock in the registry, which ends with its process, tells it
    from that of a verification that runs.
    """
    with scratch_locks(registry_dsn) as locks:
        prefix = f"/{PREFIX}{locks.identity()}-"
        _sweep(broker, locks, prefix)
        name = f"{prefix}{token_hex(4)}"
        if not locks.hold(name):
            raise RuntimeError(f"{name} is in use")  # 32 random bits
        try:
            yield name
        except BaseException:
            with suppress(BrokerUnavailable):  # the first error counts, and the next verification deletes the scratch
                _remove(broker, name)
            raise
        _remove(broker, name)


def _sweep(broker: Broker, locks: ScratchLocks, prefix: str) -> None:
    for vhost in broker.get("vhosts", columns="name"):
        if vhost["name"].startswith(prefix) and locks.hold(vhost["name"]):
            _remove(broker, vhost["name"])


def _remove(broker: Broker, vhost: str) -> None:
    """Delete a scratch vhost after its users, so that none is left without it: it is what a sweep finds."""
    own = scratch_user(vhost, "")
    users = [user["name"] for user in broker.get("users", columns="name") if user["name"].startswith(own)]
    remove_vhost(broker, vhost, users)
