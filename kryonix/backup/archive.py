"""The bundles of one stack in a store, by kind, subject and time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from kryonix.backup.bundle import Bundle, pack, unpack
from kryonix.backup.encryption import Identities, Recipients
from kryonix.backup.errors import InvalidBundle
from kryonix.backup.manifest import Facts, Kind, Manifest, member_of
from kryonix.backup.names import BundleName
from kryonix.backup.store import BundleStore, StoredBundle


@dataclass(frozen=True, slots=True)
class Archive:
    """The bundles of one stack."""

    store: BundleStore
    stack: str

    def write(
        self,
        kind: Kind,
        subject: str,
        members: Mapping[str, bytes],
        facts: Facts,
        at: datetime,
        recipients: Recipients,
    ) -> StoredBundle:
        """Write a bundle. Raises BundleExists where one of that second is there."""
        name = BundleName.of(self.stack, kind, subject, at)
        manifest = Manifest(
            kind=kind,
            subject=subject,
            stack=self.stack,
            at=name.at,
            created_at=datetime.now(UTC).replace(microsecond=0),
            members={member: member_of(content) for member, content in sorted(members.items())},
            **facts.model_dump(),
        )
        data = pack(Bundle(manifest, members), recipients)
        self.store.put(str(name), data)
        return StoredBundle(str(name), len(data), datetime.now(UTC))

    def read(self, name: BundleName, identities: Identities) -> Bundle:
        """Return a bundle. Raises InvalidBundle also for one that lies under another's name."""
        where = self.store.address_of(str(name))
        bundle = unpack(self.store.get(str(name)), identities, where)
        manifest = bundle.manifest
        found = BundleName(manifest.stack, manifest.kind, manifest.subject, manifest.at)
        if found != name:
            raise InvalidBundle(where, f"holds another bundle, {found}")
        return bundle

    def bundles(self, kind: Kind | None = None, subject: str | None = None) -> list[tuple[BundleName, StoredBundle]]:
        """Return the bundles, oldest first within a subject, with what the store says. Other files are left out."""
        prefix = BundleName.folder(self.stack, kind, subject) if kind and subject else f"{self.stack}/"
        found = ((BundleName.parse(each.name), each) for each in self.store.list(prefix))
        ours = ((name, each) for name, each in found if name and name.stack == self.stack)
        return sorted((name, each) for name, each in ours if kind in (None, name.kind))

    def newest(self, kind: Kind, subject: str) -> BundleName | None:
        """Return the newest bundle of a tenant or of the platform, or None."""
        names = [name for name, _ in self.bundles(kind, subject)]
        return names[-1] if names else None

    def newest_of_all(self) -> Iterable[BundleName]:
        """Return the newest bundle of every subject, the platform's first."""
        newest = {(name.kind, name.subject): name for name, _ in self.bundles()}
        return sorted(newest.values(), key=lambda name: (name.kind != "platform", name))

    def subjects(self) -> list[tuple[Kind, str]]:
        """Return what there are bundles of, the platform first."""
        return [(name.kind, name.subject) for name in self.newest_of_all()]
