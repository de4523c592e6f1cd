"""A platform as it was read: its broker's definitions, every row of its registry, and the state of its stack."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from kryonix.backup.bundle import Bundle
from kryonix.backup.errors import InvalidBundle
from kryonix.backup.platform_objects import Objects, own_objects
from kryonix.engines.deployments import all_entries
from kryonix.engines.provider_code import foreign_code, foreign_download
from kryonix.registry.tables import Rows
from kryonix.topology.errors import shown

_TABLE: Final = re.compile(r"(tenants|signup)\.[a-z_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformSnapshot:
    """One platform."""

    stack: str
    definitions: Mapping[str, Any] = field(repr=False)
    """The cluster's, tenants included, as `GET /api/definitions` has them."""
    rows: Rows = field(repr=False)
    state: Mapping[str, Any] | None = field(default=None, repr=False)
    """The deployment of the platform's stack, with secrets encrypted; None where the engine does not have it."""

    @property
    def objects(self) -> Objects:
        """Return the platform's own objects on the broker."""
        return own_objects(self.definitions)

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of objects and of rows by noun."""
        objects = {kind: len(found) for kind, found in self.objects.items() if found}
        return objects | {"rows": sum(map(len, self.rows.values()))}

    def members(self) -> dict[str, bytes]:
        """Return the members of a bundle."""
        values = {"definitions.json": self.definitions, "rows.json": self.rows, "state.json": self.state}
        return {
            name: json.dumps(value, sort_keys=True, indent=1).encode() + b"\n"
            for name, value in values.items()
            if value is not None
        }

    @classmethod
    def of(cls, bundle: Bundle) -> Self:
        """Return the platform of a bundle. Raises InvalidBundle, also for a state that brings code along."""
        manifest = bundle.manifest
        where = f"the bundle of {manifest.kind} {manifest.subject!r}"
        if manifest.kind != "platform":
            raise InvalidBundle(where, "it holds no platform. Restore it as a tenant")
        try:
            values = {name: json.loads(text) for name, text in bundle.members.items()}
            found = cls(
                stack=manifest.subject,
                definitions=values["definitions.json"],
                rows=values["rows.json"],
                state=values.get("state.json"),
            )
            problem = _problem(found)
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
            raise InvalidBundle(
                where, "it is not formed as this version's bundles are. Nothing of it was used"
            ) from None
        if problem:
            raise InvalidBundle(where, f"{problem}. Nothing of it was used")
        return found


def _problem(snapshot: PlatformSnapshot) -> str:
    if other := [name for name in snapshot.rows if not _TABLE.fullmatch(name)]:
        return f"it holds rows of the table {shown(other[0])}"
    if wrong := [name for name, rows in snapshot.rows.items() if not all(isinstance(row, dict) for row in rows)]:
        return f"the rows of {wrong[0]} are no objects"
    _ = snapshot.counts  # reads the name of every object
    if snapshot.state is None:
        return ""
    prefix = f"urn:pulumi:{snapshot.stack}::"
    if strangers := [each["urn"] for each in all_entries(snapshot.state) if not each["urn"].startswith(prefix)]:
        return f"its state holds {shown(strangers[0])} of another stack"
    if foreign_download(snapshot.state):
        return "its state downloads a program"
    if urn := foreign_code(snapshot.state):
        return f"its state holds code of somebody else in {shown(urn)}"
    return ""
