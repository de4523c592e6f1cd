"""BackupSettings: the config of a platform's scheduled backups."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pulumi

from kryonix.backup.errors import InvalidKey

_STORES: Final = ("s3", "gs", "az")
_AT: Final = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_LONGEST_JITTER_MIN: Final = 720
_OF_THE_IMAGE: Final = tuple(
    PurePosixPath(folder)
    for folder in (
        *("/bin", "/dev", "/etc", "/lib", "/lib64", "/proc", "/sbin", "/sys", "/usr"),
        *("/srv/kryonix", "/var/lib/kryonix", "/var/lib/kryonix-backup"),
    )
)
"""Folders of the container's own, which the bundles' can't hide."""


@dataclass(frozen=True, kw_only=True)
class BackupSettings:
    """Where bundles go, for whom they are encrypted, when they are made, and how many are kept.

    `to` is a folder of the Docker host, or the address of a store.
    """

    to: str
    recipients: Sequence[str]
    credentials: str = field(default="", repr=False)
    """The store's settings as a JSON object; empty for none."""
    at: str = "02:00"
    time_zone: str = "UTC"
    jitter_minutes: int = 15
    keep_daily: int = 7
    keep_weekly: int = 5
    keep_monthly: int = 12

    @classmethod
    def load(cls, config: pulumi.Config) -> BackupSettings | None:
        """Return the stack's settings, None where backups are off."""
        if not config.require_bool("backup"):
            return None
        return cls(
            to=config.get("backupTo") or "",
            recipients=tuple(config.require_object("backupRecipients")),
            credentials=config.get("backupCredentials") or "",
            at=config.require("backupAt"),
            time_zone=config.require("backupTimeZone"),
            jitter_minutes=config.require_int("backupJitterMinutes"),
            keep_daily=config.require_int("backupKeepDaily"),
            keep_weekly=config.require_int("backupKeepWeekly"),
            keep_monthly=config.require_int("backupKeepMonthly"),
        )

    @property
    def folder(self) -> str:
        """Return the Docker host's folder, empty for a store."""
        return "" if "://" in self.to else self.to

    @property
    def outputs(self) -> dict[str, Any]:
        """Return the stack outputs: `kryonix backup` reads them."""
        return {"backup_to": self.to, "backup_recipients": list(self.recipients)}

    @property
    def options(self) -> Sequence[str]:
        """Return the options of `kryonix backup schedule` for these values."""
        given = {
            "to": self.to,
            "at": self.at,
            "time-zone": self.time_zone,
            "jitter-minutes": self.jitter_minutes,
            "keep-daily": self.keep_daily,
            "keep-weekly": self.keep_weekly,
            "keep-monthly": self.keep_monthly,
        }
        return [text for name, value in given.items() for text in (f"--{name}", str(value))]

    def problems(self, cells_elsewhere: Sequence[str] = ()) -> list[str]:
        """Return what is wrong with these values, one line each, and the cells that a container can't reach."""
        found = [f"kryonix:backupTo: {problem}" for problem in (_of_store if "://" in self.to else _of_folder)(self.to)]
        found += _of_recipients(self.recipients)
        found += [f"kryonix:backupCredentials{problem}" for problem in self._of_credentials()]
        if not _AT.fullmatch(self.at):
            found.append(f"kryonix:backupAt: {self.at!r} is not a time of day. Write it like 02:00")
        if not _is_zone(self.time_zone):
            remedy = "Use UTC, or a name such as America/Sao_Paulo"
            found.append(f"kryonix:backupTimeZone: {self.time_zone!r} is not a time zone. {remedy}")
        if not 0 <= self.jitter_minutes <= _LONGEST_JITTER_MIN:
            rule = f"Use 0 to {_LONGEST_JITTER_MIN}"
            found.append(f"kryonix:backupJitterMinutes: {self.jitter_minutes} is out of range. {rule}")
        kept = {"Daily": self.keep_daily, "Weekly": self.keep_weekly, "Monthly": self.keep_monthly}
        found += [f"kryonix:backupKeep{key}: {n} is negative. Use 0 or more" for key, n in kept.items() if n < 0]
        if not any(kept.values()):
            found.append("kryonix:backupKeepDaily: no bundle would be kept. Use 1 or more, or set backupKeepWeekly")
        if cells_elsewhere:
            remedy = "Run `kryonix backup schedule` where every platform's stack can be read instead"
            found.append(f"kryonix:backup: there are cells of other platforms: {', '.join(cells_elsewhere)}. {remedy}")
        return found

    def _of_credentials(self) -> Iterator[str]:
        """Yield what is wrong with the credentials, which are never repeated."""
        if not self.credentials:
            return
        parsed = None
        with suppress(ValueError):
            parsed = json.loads(self.credentials)
        if not isinstance(parsed, dict) or not all(isinstance(value, str | bool) for value in parsed.values()):
            yield ': not a JSON object of texts. Write {"access_key_id": "…", "secret_access_key": "…", "region": "…"}'
        if self.folder:
            yield ": kryonix:backupTo is a folder, which takes none. Remove them, or name a store"
        if not pulumi.runtime.is_config_secret("kryonix:backupCredentials"):
            remedy = "Set it again with `pulumi config set --secret kryonix:backupCredentials`"
            yield f" is stored in plain text in the stack's file. {remedy}"


def _of_store(address: str) -> Iterator[str]:
    try:
        parts = urlsplit(address)
    except ValueError:
        yield f"not a valid address. Write it like {_STORES[0]}://BUCKET/FOLDER"
        return
    if "@" in parts.netloc or parts.query or parts.fragment:  # they may be secrets: not repeated
        yield "the address has more than a bucket and a folder. Put the login into kryonix:backupCredentials"
    elif parts.scheme not in _STORES or not parts.netloc:
        schemes = ", ".join(f"{scheme}://BUCKET/FOLDER" for scheme in _STORES)
        yield f"{address!r} is not the address of a store. Use one of {schemes}, or a folder of the Docker host"


def _of_folder(folder: str) -> Iterator[str]:
    path = PurePosixPath(folder)
    if not folder:
        yield "missing. Set a folder of the Docker host such as /srv/kryonix-backups, or s3://BUCKET/FOLDER"
    elif not path.is_absolute() or ".." in path.parts or path.as_posix() != folder or re.search(r"[:\s]", folder):
        yield f"{folder!r} is not a folder of the Docker host. Use an absolute path, without `..`, spaces and colons"
    elif len(path.parts) < 2 or any(path.is_relative_to(own) or own.is_relative_to(path) for own in _OF_THE_IMAGE):
        yield f"{folder!r} would hide the container's own files. Use another folder, such as /srv/kryonix-backups"


def _of_recipients(recipients: Sequence[object]) -> Iterator[str]:
    """Yield the first that is wrong; `line` is its number in the list."""
    from kryonix.backup.encryption import Recipients  # a stack without backups needs no cryptography

    lines = [line for line in recipients if isinstance(line, str) and line.strip()]
    if not lines or len(lines) < len(recipients):
        yield "kryonix:backupRecipients: give a list of texts. `kryonix backup keygen FILE` makes a key and prints one"
        return
    try:
        Recipients.parse("\n".join(lines), "kryonix:backupRecipients")
    except InvalidKey as error:
        yield str(error)


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        return False
    return True
