"""The rounds of a schedule: each makes the bundles that are due, verifies them, and deletes old ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Final

from kryonix.backup.creation import Created, Creation, Subject
from kryonix.backup.encryption import Identities
from kryonix.backup.errors import BundleExists, WrongKey
from kryonix.backup.names import BundleName
from kryonix.backup.platform_reading import whole_registry_dsn
from kryonix.backup.retention import Retention
from kryonix.backup.schedule import Schedule
from kryonix.backup.verification import verify
from kryonix.errors import KryonixError, ServiceUnreachable
from kryonix.registry.backups import (
    BackupKey,
    MadeBackup,
    expect_backups,
    fetch_made,
    fetch_verifications,
    forget_backup,
    record_created,
    record_verified,
    try_lock,
)
from kryonix.registry.connection import Connection, open_session
from kryonix.registry.errors import translated

log = logging.getLogger("kryonix.backup")

AGAIN: Final = timedelta(minutes=5)
"""Pause after a failure before the same bundle is tried again."""

Made = Mapping[Subject, MadeBackup]


class Ended(Exception):
    """The schedule was asked to end."""


class Rounds:
    """What a schedule does at intervals. A failure is logged, and the next round tries again.

    Of several schedules of one stack, one runs its round, and the others skip theirs. The registry remembers what is
    made, so a restart or a missed slot leaves nothing out, and nothing is made twice.
    """

    def __init__(
        self,
        opened: Callable[[], Creation],
        schedule: Schedule,
        retention: Retention,
        identities: Identities,
        *,
        ending: Event | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`opened` returns what reads the platform as it is now. `identities` open the bundles to verify them."""
        self._opened, self._schedule, self._retention, self._identities = opened, schedule, retention, identities
        self._ending, self._clock = ending or Event(), clock
        self._problem = ""
        self._not_before: dict[BundleName, datetime] = {}
        self._sealed: set[BundleName] = set()
        self._pruned = datetime.min.replace(tzinfo=UTC)

    def run(self) -> None:
        """Run one round."""
        problem = ""
        try:
            creation = self._opened()
            with _locked(creation) as connection:
                if connection is None:
                    problem = "another schedule of this stack runs; this one waits"
                else:
                    self._round(creation, connection)
        except Ended:
            return
        except KryonixError as error:
            problem = str(error)
        except Exception as error:  # the next round may succeed
            log.exception("unexpected error")
            problem = f"{type(error).__name__}: {error}"
        if problem != self._problem:
            log.warning("%s", problem or "works again")
        self._problem = problem

    def _round(self, creation: Creation, connection: Connection) -> None:
        slot = self._schedule.slot(self._clock())
        subjects = creation.subjects()
        expect_backups(connection, creation.stack, [(each.kind, each.id) for each in subjects])
        made = self._made(creation, connection, slot)
        if missing := self._missing(creation, subjects, made, slot):
            log.info("due at %s: %d of %d bundles", f"{slot:%Y-%m-%d %H:%M} UTC", len(missing), len(subjects))
            creation.create_all(missing, slot, self._created(creation, connection))
        made = self._made(creation, connection, slot)
        for subject in subjects:
            if subject in made and not made[subject].verified:
                self._verify(creation, connection, _name(creation, subject, slot), made[subject])
        if self._pruned < slot and self._clock() >= self._schedule.all_due(slot):
            self._prune(creation, connection)
            self._pruned = slot

    def _made(self, creation: Creation, connection: Connection, slot: datetime) -> Made:
        """Return the slot's bundles in this store by subject."""
        found = fetch_made(connection, creation.stack, slot)
        here = f"{creation.archive.store.address}/"
        return {Subject(kind, id): each for (kind, id), each in found.items() if each.address.startswith(here)}

    def _missing(self, creation: Creation, subjects: list[Subject], made: Made, slot: datetime) -> list[Subject]:
        """Return the subjects whose bundle is due and was not tried a moment ago."""
        now = self._clock()
        due = (s for s in subjects if s not in made and self._schedule.due(s.kind, s.id, slot) <= now)
        return [each for each in due if self._may_try(_name(creation, each, slot))]

    def _may_try(self, name: BundleName) -> bool:
        return self._clock() >= self._not_before.get(name, datetime.min.replace(tzinfo=UTC))

    def _created(self, creation: Creation, connection: Connection) -> Callable[[Created], None]:
        """Return what is called after each bundle."""

        def on_done(made: Created) -> None:
            if made.stored is not None:
                log.info("%s: %d bytes in %.1f s", _subject(made.name), made.stored.bytes, made.seconds)
            elif isinstance(made.error, BundleExists):  # by another schedule; or the registry was not told
                found = creation.archive.bundles(made.name.kind, made.name.subject)
                (size,) = (each.bytes for name, each in found if name == made.name)
                address = creation.archive.store.address_of(str(made.name))
                record_created(connection, made.name.key, address=address, started_at=made.name.at, bytes=size)
            else:
                log.warning("%s: not backed up: %s", _subject(made.name), made.error)
                self._not_before[made.name] = self._clock() + AGAIN
            if self._ending.is_set():
                raise Ended

        return on_done

    def _verify(self, creation: Creation, connection: Connection, name: BundleName, made: MadeBackup) -> None:
        """Verify a bundle and record the result. What does not answer, or another's key, is no result."""
        if self._ending.is_set():
            raise Ended
        if made.verify_failed or name in self._sealed or not self._may_try(name):
            return
        try:
            bundle, broker = creation.archive.read(name, self._identities), creation.broker(_subject(name))
            dsn = whole_registry_dsn(creation.engine, creation.stack, creation.registry_dsn)
            found = verify(bundle, broker, dsn)
            error, seconds = found.error, found.seconds
        except WrongKey as problem:
            self._sealed.add(name)
            log.warning("%s: not verified: %s", _subject(name), problem)
            return
        except KryonixError as problem:
            if problem.exit_status == ServiceUnreachable.exit_status:
                self._not_before[name] = self._clock() + AGAIN
                log.warning("%s: not verified yet: %s", _subject(name), problem)
                return
            error, seconds = str(problem), 0.0
        except Exception as problem:  # a fault with one bundle must not stop the others
            log.exception("%s: unexpected error", _subject(name))
            error, seconds = f"{type(problem).__name__}: {problem}", 0.0
        record_verified(connection, name.key, address=made.address, bytes=made.bytes, error=error)
        if error:
            log.error("%s: would not restore: %s", _subject(name), error)
        else:
            log.info("%s: verified in %.1f s", _subject(name), seconds)

    def _prune(self, creation: Creation, connection: Connection) -> None:
        """Delete the bundles that nothing keeps."""
        names = [name for name, _ in creation.archive.bundles()]
        results = fetch_verifications(connection, creation.stack)
        verified = {_name_of(key) for key, outcome in results.items() if outcome == "verified"}
        old = [name for name, why in self._retention.decide(names, verified).items() if not why]
        for name in old:
            creation.archive.store.delete(str(name))
            forget_backup(connection, name.key)
        if old:
            log.info("%d of %d bundles deleted", len(old), len(names))


@contextmanager
def _locked(creation: Creation) -> Iterator[Connection | None]:
    """Open a connection in autocommit mode that holds the lock of the stack's schedule; None if another does."""
    with translated(creation.registry_dsn), open_session(creation.registry_dsn) as connection:
        yield connection if try_lock(connection, creation.stack) else None


def _name(creation: Creation, subject: Subject, slot: datetime) -> BundleName:
    return BundleName.of(creation.stack, subject.kind, subject.id, slot)


def _subject(name: BundleName) -> Subject:
    return Subject(name.kind, name.subject)


def _name_of(key: BackupKey) -> BundleName:
    return BundleName(key.stack, key.kind, key.subject, key.at)
