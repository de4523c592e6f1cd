"""Every tenant of the platform, as the registry has it, and what manages each."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

from kryonix.fleet.members import OWN_STACK
from kryonix.registry.connection import Connection
from kryonix.registry.desired_states import DesiredState
from kryonix.signup.database import QUERIES
from kryonix.tenants.errors import UnknownTenant

Stage = Literal["active", "suspended", "offboarding", "removing", "removed"]
Sort = Literal["id", "-id", "plan", "-plan", "status", "-status", "changed", "-changed"]

STANDING: Final[tuple[Stage, ...]] = ("active", "suspended", "offboarding", "removing")
"""The stages of the tenants that are listed by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed(DesiredState):
    """A tenant in the registry. One that a config file declares has no desired state of its own, and no known cell."""

    declared: bool

    @property
    def managed_by(self) -> str:
        return "config file" if self.declared else OWN_STACK  # the registry does not say which file


def fetch_page(
    connection: Connection,
    *,
    stages: Collection[Stage] | None = None,
    ids: Collection[str] | None = None,
    search: str = "",
    sort: Sort = "id",
    after: str = "",
    limit: int | None = None,
    id: str | None = None,
) -> tuple[list[Listed], int]:
    """Return the tenants of these stages and ids (None: of all) after the tenant `after`, and the number of all."""
    values = {
        "id": id,
        "ids": None if ids is None else list(ids),
        "statuses": None if stages is None else list(stages),
        "search": search,
        "sort": sort.removeprefix("-"),
        "descending": sort.startswith("-"),
        "after": after,
        "limit": limit,
    }
    rows = connection.execute(QUERIES["fetch_listed_tenants"], values).fetchall()
    listed = [Listed.of(row) for row in rows]
    if not rows and after:  # past the end: the number of all is in the first row of any page
        rows = connection.execute(QUERIES["fetch_listed_tenants"], {**values, "after": "", "limit": 1}).fetchall()
    return listed, rows[0]["total"] if rows else 0


def fetch_listed(connection: Connection, id: str) -> Listed:
    """Return one tenant, whatever manages it. Raises UnknownTenant."""
    found, _ = fetch_page(connection, id=id)
    if not found:
        raise UnknownTenant(id)
    return found[0]


def fetch_key_names(connection: Connection, ids: Collection[str | None]) -> dict[str, str]:
    """Return the names of API keys by their ids."""
    rows = connection.execute(QUERIES["fetch_key_names"], {"ids": list(ids)})
    return {row["id"]: row["name"] for row in rows}
