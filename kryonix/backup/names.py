"""Names of bundles within a store: `{stack}/tenants/{id}/{time}.tar.zst.age`, `{stack}/platform/{time}.tar.zst.age`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self

from kryonix.backup.errors import InvalidAddress
from kryonix.backup.manifest import Kind
from kryonix.registry.backups import BackupKey
from kryonix.topology.naming import TENANT_ID

SUFFIX: Final = ".tar.zst.age"
_TIME: Final = "%Y%m%dT%H%M%SZ"
_STACK: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"
_NAME: Final = re.compile(
    rf"(?P<stack>{_STACK})/(?:platform|tenants/(?P<tenant>{TENANT_ID}))/(?P<at>\d{{8}}T\d{{6}}Z){re.escape(SUFFIX)}"
)


@dataclass(frozen=True, slots=True, order=True)
class BundleName:
    """The name of one bundle. `subject` is a tenant's id or the platform's stack, `at` a time to the second."""

    stack: str
    kind: Kind
    subject: str
    at: datetime

    @classmethod
    def of(cls, stack: str, kind: Kind, subject: str, at: datetime) -> Self:
        """Return a name, with the time in UTC to the second. Raises InvalidAddress for what can't be one."""
        name = cls(stack, kind, subject, at.astimezone(UTC).replace(microsecond=0))
        if cls.parse(str(name)) != name:
            raise InvalidAddress(f"there is no bundle of the {kind} {subject!r} of the stack {stack!r}")
        return name

    @classmethod
    def parse(cls, path: str) -> Self | None:
        """Return the name that a path within a store has, or None for a path of something else."""
        match = _NAME.fullmatch(path)
        if not match:
            return None
        try:
            at = datetime.strptime(match["at"], _TIME).replace(tzinfo=UTC)
        except ValueError:
            return None
        stack, tenant = match["stack"], match["tenant"]
        return cls(stack, "tenant", tenant, at) if tenant else cls(stack, "platform", stack, at)

    @property
    def key(self) -> BackupKey:
        """Return the key of the bundle's record in the registry."""
        return BackupKey(stack=self.stack, kind=self.kind, subject=self.subject, at=self.at)

    @staticmethod
    def folder(stack: str, kind: Kind, subject: str) -> str:
        """Return the path that holds all bundles of a tenant or of the platform."""
        return f"{stack}/platform/" if kind == "platform" else f"{stack}/tenants/{subject}/"

    def __str__(self) -> str:
        return f"{self.folder(self.stack, self.kind, self.subject)}{self.at.strftime(_TIME)}{SUFFIX}"
