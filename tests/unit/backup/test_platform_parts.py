"""A platform's own vhosts and rows, in the shape of a tenant's."""

from __future__ import annotations

from typing import Any

from kryonix.backup.platform_parts import rows_of, shared_vhosts
from kryonix.backup.platform_snapshot import PlatformSnapshot
from kryonix.backup.snapshot import TenantSnapshot

HASH = {"hashing_algorithm": "rabbit_password_hashing_sha256", "password_hash": "c2VjcmV0", "limits": {}}
EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}


def vhost(name: str) -> dict[str, Any]:
    return {"name": name, "metadata": {"description": "Control", "tags": [], "default_queue_type": "quorum"}}


def right(user: str, name: str) -> dict[str, Any]:
    return {"user": user, "vhost": name, **EVERYTHING}


DEFINITIONS: dict[str, Any] = {
    "vhosts": [vhost("/kryonix-master"), vhost("/cliente_acme"), vhost("/kryonix-verify-1-2")],
    "users": [
        {"name": "kryonix_admin", "tags": ["administrator"], **HASH},
        {"name": "kryonix-master", "tags": "monitoring", **HASH},
        {"name": "kryonix-metrics", "tags": [], **HASH},
        {"name": "kryonix_acme", "tags": [], **HASH},
    ],
    "permissions": [right(user, "/kryonix-master") for user in ("kryonix_admin", "kryonix-master")],
    "exchanges": [
        {"name": name, "vhost": "/kryonix-master", "type": "topic", "arguments": {}} for name in ("amq.x", "kryonix")
    ],
    "queues": [{"name": "cliente_acme.q", "vhost": "/cliente_acme", "type": "quorum"}],
}


def parts() -> list[TenantSnapshot]:
    return list(shared_vhosts(PlatformSnapshot(stack="dev", definitions=DEFINITIONS, rows={})))


def test_the_platforms_own_vhosts_are_its_parts() -> None:
    assert [part.vhost and part.vhost["name"] for part in parts()] == ["/kryonix-master"]


def test_built_in_exchanges_are_no_part() -> None:
    (part,) = parts()
    assert part.definitions["exchanges"] == [{"name": "kryonix", "type": "topic", "arguments": {}}]
    assert part.definitions["queues"] == []


def test_an_administrator_is_never_copied() -> None:
    (part,) = parts()
    assert [user["name"] for user in part.users] == ["kryonix-master"]
    assert part.permissions == [{"user": "kryonix-master", **EVERYTHING}]


def test_tags_written_as_text_are_a_list() -> None:
    (part,) = parts()
    assert part.users[0]["tags"] == ["monitoring"]


def test_rows_are_a_part_without_a_vhost() -> None:
    rows: dict[str, Any] = {"signup.api_keys": [{"id": "k"}]}
    part = rows_of(PlatformSnapshot(stack="dev", definitions={}, rows=rows))
    assert (part.rows, part.vhost) == (rows, None)
