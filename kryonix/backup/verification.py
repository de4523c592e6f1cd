"""Prove that a bundle restores: write it to scratch on the live platform, read it back, and compare."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kryonix.backup.bundle import Bundle
from kryonix.backup.differences import Difference, differences
from kryonix.backup.objects import open_vhost, put_objects, put_users, read_vhost
from kryonix.backup.platform_parts import rows_of, shared_vhosts
from kryonix.backup.platform_snapshot import PlatformSnapshot
from kryonix.backup.scratch import scratch_user, scratch_vhost
from kryonix.backup.snapshot import RESTORED, Entry, TenantSnapshot
from kryonix.rabbitmq.broker import Broker
from kryonix.registry.scratch import through_scratch


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What a restore of a bundle would bring back otherwise than it was, and how long the verification took."""

    differences: Sequence[Difference]
    seconds: float

    @property
    def proven(self) -> bool:
        return not self.differences

    @property
    def error(self) -> str:
        """Return the differences as one text, to record; empty for a bundle that is proven to restore."""
        return "; ".join(map(str, self.differences))


def verify(bundle: Bundle, broker: Broker, registry_dsn: str) -> Verification:
    """Restore a bundle into a scratch vhost, scratch users and scratch tables, read them, and compare.

    The platform's own objects and rows are not touched, and no scratch is left. Raises InvalidBundle, Incomplete for
    objects that the broker leaves out, RegistryRefused for rows that the registry refuses, or what is unreachable.
    """
    began = time.monotonic()
    if bundle.manifest.kind == "platform":
        platform = PlatformSnapshot.of(bundle)
        parts = [*shared_vhosts(platform), rows_of(platform)]
    else:
        parts = [TenantSnapshot.of(bundle)]
    found = [each for part in parts for each in _through_scratch(_restorable(part), broker, registry_dsn)]
    return Verification(differences=found, seconds=time.monotonic() - began)


def _through_scratch(was: TenantSnapshot, broker: Broker, registry_dsn: str) -> list[Difference]:
    """Return the differences that a restore makes. What has no vhost, or no rows, needs no scratch for them."""
    now = was
    if was.rows:
        now = replace(now, rows=_through_tables(registry_dsn, was.rows))
    if was.vhost:
        now = replace(now, **_through_broker(broker, registry_dsn, was))
    return differences(was, now)


def _restorable(snapshot: TenantSnapshot) -> TenantSnapshot:
    """Return the part of a snapshot that a restore writes: the platform's administrator has rights already."""
    own = {user["name"] for user in snapshot.users}
    parameters = [each for each in snapshot.definitions["parameters"] if each["component"] in RESTORED]
    return replace(
        snapshot,
        definitions={**snapshot.definitions, "parameters": parameters},
        permissions=[each for each in snapshot.permissions if each["user"] in own],
    )


def _through_broker(broker: Broker, registry_dsn: str, was: TenantSnapshot) -> dict[str, Any]:
    """Return the fields of the snapshot that the broker has, as it gives them back."""
    with scratch_vhost(broker, registry_dsn) as vhost:
        copies = {user["name"]: scratch_user(vhost, user["name"]) for user in was.users}
        put_objects(broker, was, vhost)
        put_users(broker, was, vhost, copies)
        open_vhost(broker, was, vhost)
        found = read_vhost(broker, vhost, copies.values())
    originals = {copy: name for name, copy in copies.items()}
    return found | {
        "vhost": was.vhost and {**found["vhost"], "name": was.vhost["name"]},
        "users": _renamed(found["users"], "name", originals),
        "permissions": _renamed(found["permissions"], "user", originals),
        "topic_permissions": _renamed(found["topic_permissions"], "user", originals),
    }


def _renamed(entries: Sequence[Entry], field: str, names: Mapping[str, str]) -> list[Entry]:
    return [{**each, field: names[each[field]]} for each in entries]


def _through_tables(registry_dsn: str, rows: Mapping[str, Sequence[Entry]]) -> dict[str, list[Entry]]:
    """Return the rows as the registry gives them back. Columns that are newer than the bundle do not count."""
    found = through_scratch(registry_dsn, rows)
    known = {name: set[str]().union(*was) for name, was in rows.items()}
    return {name: [{key: row[key] for key in row if key in known[name]} for row in found[name]] for name in rows}
