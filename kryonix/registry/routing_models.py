"""Routing that learns in the registry: each tenant's models by version, its mode, and whether it shares its outcomes.

One tenant's outcomes train no other's model, unless both share: `publish` refuses such a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from kryonix.registry.connection import QUERIES, Connection
from kryonix.registry.errors import RoutingBusy, RoutingRefused
from kryonix.routing.model import read_model
from kryonix.routing.modes import Mode

KEPT: Final = 20
"""A tenant's newest versions that stay when another is published, beside the one in use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """A tenant's mode and the model that it uses. `canary` is a percentage; without a model, version and content None.

    `made_at` is the model's time, `changed_at` that of the last change of mode or version.
    """

    mode: Mode
    canary: float
    version: str | None
    content: bytes | None = field(repr=False)
    made_at: datetime | None
    changed_at: datetime
    changed_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingModel:
    """A published model, without its content. `made_of` are the tenants whose outcomes it learned from."""

    version: str
    made_at: datetime
    messages: int
    made_of: tuple[str, ...]
    published_at: datetime
    published_by: str
    bytes: int
    in_use: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingMode:
    """A tenant's mode, and version and time of its model."""

    cliente_id: str
    mode: Mode
    version: str | None
    made_at: datetime | None


def publish(
    connection: Connection, cliente_id: str, version: str, content: bytes, made_of: Sequence[str] = (), by: str = ""
) -> None:
    """Store a model for a tenant: the bytes of its file. No mode changes, and old versions that nobody uses go.

    `made_of` adds to the tenants that the file names. Raises ModelRefused, RoutingBusy, and RoutingRefused for an
    unknown tenant, another version than the file's, and outcomes of a tenant that does not share them.
    """
    model = read_model(content, f"the model for the tenant {cliente_id!r}")
    if model.version != version:
        raise RoutingRefused(f"the model for the tenant {cliente_id!r} has version {model.version}, not {version!r}")
    _lock(connection, cliente_id)
    sources = sorted({*made_of, *model.tenants} or {cliente_id})
    if others := set(sources) - {cliente_id}:
        _expect_shared(connection, cliente_id, others)
    values = {
        "version": version,
        "content": content,
        "made_at": model.made_at,
        "messages": model.messages,
        "made_of": sources,
        "by": by,
    }
    connection.execute(QUERIES["put_model"], {"id": cliente_id, **values})
    connection.execute(QUERIES["forget_old_models"], {"id": cliente_id, "kept": KEPT})


def set_mode(
    connection: Connection, cliente_id: str, mode: Mode, canary: float = 0, version: str | None = None, by: str = ""
) -> Routing:
    """Set a tenant's mode, and return it. `canary` is the percentage of messages in that mode, and 0 in others.

    Without a version, the one in use stays; if there is none, the newest is taken. An earlier version is a rollback.
    Raises RoutingBusy, ModelRefused for a model that this release can't read, and RoutingRefused for an unknown tenant
    or version, and for a mode that needs a model where there is none.
    """
    if not (0 < canary <= 100 if mode == "canary" else canary == 0):
        rule = "more than 0 and at most 100" if mode == "canary" else "0: only the mode canary has a share"
        raise RoutingRefused(f"{canary:g} % is not a share for the mode {mode!r}. Give {rule}")
    _lock(connection, cliente_id)
    version = version or _default_version(connection, cliente_id)
    if version is None and mode != "off":
        remedy = "Publish one (`kryonix router train --publish`)"
        raise RoutingRefused(f"the tenant {cliente_id!r} has no model, which the mode {mode!r} needs. {remedy}")
    made_at = None if version is None else _readable(connection, cliente_id, version, must_read=mode != "off")
    values = {"mode": mode, "canary": canary, "version": version, "made_at": made_at, "by": by}
    connection.execute(QUERIES["put_mode"], {"id": cliente_id, **values})
    (row,) = connection.execute(QUERIES["fetch_routing"], {"id": cliente_id})
    return _routing(row)


def fetch_routing(connection: Connection, cliente_id: str) -> Routing | None:
    """Return a tenant's mode and the model it uses; None before the first `set_mode`, which means the rules."""
    row = connection.execute(QUERIES["fetch_routing"], {"id": cliente_id}).fetchone()
    return None if row is None else _routing(row)


def fetch_models(connection: Connection, cliente_id: str) -> list[RoutingModel]:
    """Return a tenant's models, the newest first."""
    rows = connection.execute(QUERIES["fetch_models"], {"id": cliente_id})
    return [RoutingModel(**{**row, "made_of": tuple(row["made_of"])}) for row in rows]


def fetch_content(connection: Connection, cliente_id: str, version: str) -> bytes:
    """Return the file of a tenant's model, byte for byte. Raises RoutingRefused for an unknown version."""
    return _model(connection, cliente_id, version)[0]


def fetch_modes(connection: Connection) -> list[RoutingMode]:
    """Return the modes of all tenants that have one, ordered by id; none of a registry of an older version."""
    if not _is_made(connection):
        return []
    return [RoutingMode(**row) for row in connection.execute(QUERIES["fetch_routing_modes"])]


def set_sharing(connection: Connection, cliente_id: str, shares: bool) -> None:
    """Let a tenant share its outcomes with others that share theirs, or end that.

    Models that have learned from them stay: only publishing asks. Raises RoutingBusy, and RoutingRefused for an
    unknown tenant.
    """
    _lock(connection, cliente_id)
    connection.execute(QUERIES["share_outcomes" if shares else "unshare_outcomes"], {"id": cliente_id})


def fetch_sharing(connection: Connection) -> dict[str, datetime]:
    """Return the tenants that share their outcomes, and since when."""
    return {row["cliente_id"]: row["shared_since"] for row in connection.execute(QUERIES["fetch_sharing"])}


def remove_routing(connection: Connection, cliente_id: str) -> None:
    """Delete a removed tenant's models, mode and login, and end its sharing."""
    if _is_made(connection):
        for query in ("delete_modes", "delete_models", "unshare_outcomes", "revoke_routing"):
            connection.execute(QUERIES[query], {"id": cliente_id})


def _is_made(connection: Connection) -> bool:
    (found,) = connection.execute(QUERIES["has_routing"])
    return bool(found["made"])


def _lock(connection: Connection, cliente_id: str) -> None:
    """Lock the tenant's routing until the transaction ends. Raises RoutingBusy, and RoutingRefused if it is unknown."""
    (row,) = connection.execute(QUERIES["try_lock_routing"], {"id": cliente_id})
    if not row["held"]:
        raise RoutingBusy(cliente_id)
    if connection.execute(QUERIES["fetch_routing_tenant"], {"id": cliente_id}).fetchone() is None:
        raise RoutingRefused(f"the registry has no tenant {cliente_id!r}. `kryonix tenant list` shows those there are")


def _expect_shared(connection: Connection, cliente_id: str, others: set[str]) -> None:
    unshared = [
        row["cliente_id"]
        for row in connection.execute(QUERIES["fetch_unshared"], {"tenants": [cliente_id, *sorted(others)]})
    ]
    if unshared:
        problem = f"the model for the tenant {cliente_id!r} learned from {', '.join(sorted(others))}"
        remedy = "All of them have to share first (`kryonix router share`), or train it from this tenant's own"
        raise RoutingRefused(f"{problem}, and {', '.join(unshared)} shares no outcomes. {remedy}")


def _default_version(connection: Connection, cliente_id: str) -> str | None:
    models = fetch_models(connection, cliente_id)
    return next((each.version for each in models if each.in_use), models[0].version if models else None)


def _readable(connection: Connection, cliente_id: str, version: str, *, must_read: bool) -> datetime:
    """Return a model's time. Raises ModelRefused if this release can't read it, which only its use needs."""
    content, made_at = _model(connection, cliente_id, version)
    if must_read:
        read_model(content, f"the model {version} of the tenant {cliente_id!r}")
    return made_at


def _model(connection: Connection, cliente_id: str, version: str) -> tuple[bytes, datetime]:
    row = connection.execute(QUERIES["fetch_model"], {"id": cliente_id, "version": version}).fetchone()
    if row is None:
        known = ", ".join(each.version for each in fetch_models(connection, cliente_id)[:5]) or "none"
        raise RoutingRefused(f"the tenant {cliente_id!r} has no model {version!r}. The newest ones: {known}")
    return row["content"], row["made_at"]


def _routing(row: dict[str, object]) -> Routing:
    return Routing(**{**row, "canary": float(str(row["canary"]))})  # type: ignore[arg-type]
