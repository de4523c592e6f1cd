"""Records of backups: each bundle's result, and which bundles a schedule is expected to make."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from kryonix.registry.connection import QUERIES, Connection

BackupKind = Literal["tenant", "platform"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupKey:
    """What a bundle is of. `subject` is the tenant's id, or the platform's stack; `at` the time in its name."""

    stack: str
    kind: BackupKind
    subject: str
    at: datetime

    def values(self) -> dict[str, object]:
        """Return the key's columns."""
        return {"stack": self.stack, "kind": self.kind, "subject": self.subject, "at": self.at}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewestBackups:
    """One subject's newest bundles, each by the time in its name, None without one.

    `bytes` is the newest bundle's size. `error` says why the last attempt failed, `verify_error` why the last
    verification did. `expected_since` is None unless a schedule makes its bundles; `seen_at` is when that ran last.
    """

    stack: str
    kind: BackupKind
    subject: str
    created: datetime | None
    verified: datetime | None
    bytes: int | None
    error: str
    verify_error: str
    expected_since: datetime | None
    seen_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeBackup:
    """A bundle that exists, and the result of its last verification: neither is True before the first."""

    address: str
    bytes: int
    verified: bool
    verify_failed: bool


def try_lock(connection: Connection, stack: str) -> bool:
    """Lock the stack's schedule for the lifetime of this connection. Return False if another process holds it."""
    (row,) = connection.execute(QUERIES["try_lock_backups"], {"stack": stack})
    return bool(row["held"])


def record_created(connection: Connection, key: BackupKey, *, address: str, started_at: datetime, bytes: int) -> None:
    """Record a bundle that was written. `address` is shown to people: it has no credentials."""
    values = {"address": address, "started_at": started_at, "bytes": bytes, "outcome": "created", "error": ""}
    connection.execute(QUERIES["record_backup"], key.values() | values)


def record_failed(connection: Connection, key: BackupKey, *, address: str, started_at: datetime, error: str) -> None:
    """Record an attempt that wrote no bundle."""
    values = {"address": address, "started_at": started_at, "bytes": None, "outcome": "failed", "error": error}
    connection.execute(QUERIES["record_backup"], key.values() | values)


def record_verified(connection: Connection, key: BackupKey, *, address: str, bytes: int, error: str = "") -> None:
    """Record a verification. `error` says why it failed."""
    values = {"address": address, "bytes": bytes, "outcome": "failed" if error else "verified", "error": error}
    connection.execute(QUERIES["record_verification"], key.values() | values)


def forget_backup(connection: Connection, key: BackupKey) -> None:
    """Delete the record of a bundle that was deleted."""
    connection.execute(QUERIES["forget_backup"], key.values())


def fetch_newest_backups(connection: Connection, *, stack: str | None = None) -> list[NewestBackups]:
    """Return every subject's newest backups: all, or one stack's."""
    return [NewestBackups(**row) for row in connection.execute(QUERIES["fetch_newest_backups"], {"stack": stack})]


def fetch_verifications(connection: Connection, stack: str) -> dict[BackupKey, str]:
    """Return the result of each bundle's last verification, `verified` or `failed`, of one stack's."""
    rows = connection.execute(QUERIES["fetch_verifications"], {"stack": stack})
    return {
        BackupKey(stack=r["stack"], kind=r["kind"], subject=r["subject"], at=r["at"]): r["verify_outcome"] for r in rows
    }


def fetch_made(connection: Connection, stack: str, at: datetime) -> dict[tuple[BackupKind, str], MadeBackup]:
    """Return a stack's bundles of one moment by kind and subject."""
    rows = connection.execute(QUERIES["fetch_made"], {"stack": stack, "at": at})
    return {(row.pop("kind"), row.pop("subject")): MadeBackup(**row) for row in rows}


def expect_backups(connection: Connection, stack: str, subjects: Collection[tuple[BackupKind, str]]) -> None:
    """Record which subjects a stack's schedule backs up, and that it runs. None: the stack has no schedule any more."""
    kinds, names = [kind for kind, _ in subjects], [name for _, name in subjects]
    connection.execute(QUERIES["expect_backups"], {"stack": stack, "kinds": kinds, "subjects": names})
