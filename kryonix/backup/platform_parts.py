"""A platform's vhosts and rows in the shape of a tenant's, for what reads, writes and compares one vhost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from kryonix.backup.platform_snapshot import PlatformSnapshot
from kryonix.backup.snapshot import OBJECTS, TenantSnapshot

_BUILT_IN: Final = "amq."
_ADMINISTRATOR: Final = "administrator"
_NO_OBJECTS: Final[dict[str, list[Any]]] = {kind: [] for kind in OBJECTS}


def shared_vhosts(platform: PlatformSnapshot) -> Iterator[TenantSnapshot]:
    """Yield each of the platform's own vhosts, with its users.

    An administrator is left out: a copy of one, even for a moment, would open the broker to whoever wrote the bundle.
    """
    objects = platform.objects
    users = [user for user in objects["users"].values() if _ADMINISTRATOR not in _tags(user["tags"])]
    for vhost in objects["vhosts"].values():
        name, metadata = vhost["name"], vhost.get("metadata") or {}
        inside = {
            kind: [_without_vhost(each) for each in objects[kind].values() if each["vhost"] == name]
            for kind in (*OBJECTS, "permissions", "topic_permissions")
        }
        members = {right["user"] for right in (*inside["permissions"], *inside["topic_permissions"])}
        own = [user for user in users if user["name"] in members]
        known = {user["name"] for user in own}
        yield TenantSnapshot(
            tenant=name,
            vhost={
                "name": name,
                "description": metadata.get("description", ""),
                "tags": metadata.get("tags", []),
                "default_queue_type": metadata.get("default_queue_type", "classic"),
                "protected": bool(metadata.get("protected_from_deletion")),
            },
            definitions={
                kind: [each for each in inside[kind] if not str(each.get("name", "")).startswith(_BUILT_IN)]
                for kind in OBJECTS
            },
            users=[{**user, "tags": _tags(user["tags"]), "limits": user.get("limits") or {}} for user in own],
            permissions=[each for each in inside["permissions"] if each["user"] in known],
            topic_permissions=[each for each in inside["topic_permissions"] if each["user"] in known],
            rows={},
            entry={},
        )


def rows_of(platform: PlatformSnapshot) -> TenantSnapshot:
    """Return the platform's rows, without a vhost."""
    return TenantSnapshot(
        tenant=platform.stack,
        vhost=None,
        definitions=_NO_OBJECTS,
        users=(),
        permissions=(),
        topic_permissions=(),
        rows=platform.rows,
        entry={},
    )


def _without_vhost(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != "vhost"}


def _tags(tags: Any) -> list[str]:
    """Return a user's tags: brokers have written them as one text, too."""
    return [tag for tag in tags.split(",") if tag] if isinstance(tags, str) else list(tags)
