"""The keeper: issue, place and renew certificates, and see to it that they are served.

A round brings every place to its goal from wherever the last one ended, so a keeper that is killed at any step needs no
repair: a certificate that is in place and not served yet is loaded and verified by the next round.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any, Final, Literal

from kryonix.certificates.leaf import CertificateRejected, Leaf, WrongHost
from kryonix.certificates.placement import PUBLIC, date, locked, place, placed
from kryonix.certificates.places import KeeperFile, Place
from kryonix.certificates.public import ROLE, PublicCertificate, Shown
from kryonix.certificates.reloading import reload_postgres
from kryonix.certificates.served import CertificateUnreadable, served
from kryonix.errors import KryonixError

log = logging.getLogger("kryonix.certificates")

STATUS: Final = "status.json"
_CHAIN, _KEY = "fullchain.pem", "privkey.pem"
_LOOK_S: Final = 0.25
_TOUCH_S: Final = 2.0
_ANSWER_S: Final = 3.0
"""A round has to end before the keeper counts as hanging, even if every service hangs."""
_RETRY_S: Final = 2.0
"""A service that has just taken its folder waits this long at most."""

State = Literal["served", "not served", "not answering", "waiting", "rejected"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceStatus:
    """How a place was after a round. Times are in ISO 8601; the serial is in hexadecimal."""

    role: str
    state: State
    endpoint: str
    names: tuple[str, ...] = ()
    serial: str = ""
    issuer: str = ""
    expires: str = ""
    renews: str = ""
    """When it will be renewed; empty for a certificate of your own."""
    problem: str = ""


class Keeper:
    """Keeps the certificates of one keeper's file. `folder` is for its status and its lock."""

    def __init__(
        self, file: KeeperFile, folder: Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._file, self._folder, self._now = file, folder, now
        self._public = PublicCertificate(file.acme, now) if file.acme else None
        self._started = False
        self._known: dict[tuple[str, str], tuple[str, str]] = {}

    def run(self, stop: Event, *, interval: float, patience: float, alive_file: Path | None = None) -> None:
        """Keep certificates until `stop` is set: a round every `interval` seconds, sooner after a problem."""
        while not stop.is_set():
            statuses = self.round(patience=patience)
            if alive_file is not None:
                alive_file.touch()  # a CA may take its time
            if not stop.is_set() and self.order():
                continue
            # A CA that has refused is asked again in 15 minutes, and a round sooner would change nothing.
            whole = all(each.state == "served" or (each.role, each.state) == (ROLE, "rejected") for each in statuses)
            until = time.monotonic() + (interval if whole else min(interval, _RETRY_S))
            while not stop.is_set() and (left := until - time.monotonic()) > 0:
                if alive_file is not None:
                    alive_file.touch()
                stop.wait(min(left, _TOUCH_S))

    def order(self, *, force: bool = False) -> bool:
        """Have the certificate for public names issued if it is due or forced; return True if a round has news of it.

        No service waits for it: until then, rounds place one of the platform's CA.
        """
        return self._public is not None and self._public.order(force=force)

    def round(self, *, force: bool = False, patience: float) -> list[PlaceStatus]:
        """Bring all places to their goal once, and return how they are. `force` renews what is not due too.

        `patience` is how long services may take to serve what is in place, in seconds. Only one round runs at a time.
        """
        with locked(self._folder):
            leaves: dict[Place, Leaf] = {}
            statuses: dict[Place, PlaceStatus] = {}
            changed = set[Place]()
            public = {each: self._public.shown(each) for each in self._file.places if each.public and self._public}
            for each in self._file.places:
                try:
                    if not _taken(each.folder):
                        problem = f"the service has not taken {each.folder} yet"
                        statuses[each] = self._status(each, placed(each.folder), "waiting", problem)
                        continue
                    leaves[each], is_new = self._placed(each, force, public.get(each))
                    changed |= {each} if is_new or not self._started else set()
                except (KryonixError, OSError) as error:
                    statuses[each] = self._status(each, placed(each.folder), "rejected", str(error))
            leaves |= {each.listener: each.leaf for place, each in public.items() if each.leaf and place in leaves}
            statuses |= self._serve(leaves, changed, patience)
            self._started = True
            found = [statuses[each] for each in self._file.places]
            found += [self._public_status(each, statuses, statuses[place]) for place, each in public.items()]
            self._report(found)
            return found

    def _placed(self, where: Place, force: bool, public: Shown | None) -> tuple[Leaf, bool]:
        """Return the place's certificate, and True if it or the trusted CAs are new. Raises CertificateRejected."""
        clients = self._file.authorities.clients
        if self._file.source is not None:
            leaf, trust = self._own(self._file.source, where)
            return leaf, place(where.folder, leaf, trust, clients, _beside(where, leaf, public))
        present, trust = placed(where.folder), self._file.authorities.trusted
        if (reason := self._why_new(present, where, force)) or present is None:
            leaf = self._issue(where)
            leaf.check(trust, where.names, self._now())
            log.info("%s: issued %x, valid until %s: %s", where.role, leaf.serial, _day(leaf.expires), reason)
        else:
            leaf = present
        return leaf, place(where.folder, leaf, trust, clients, _beside(where, leaf, public))

    def _issue(self, where: Place) -> Leaf:
        issuing = self._file.authorities.issuing
        if issuing is None:
            raise CertificateRejected("there is no CA to issue it")
        return issuing.authority.issue_server(where.names)

    def _why_new(self, present: Leaf | None, where: Place, force: bool) -> str:
        """Return why the place needs another certificate; empty if it doesn't."""
        issuing, now = self._file.authorities.issuing, self._now()
        if present is None:
            return "there is none"
        if force:
            return "as asked for"
        if set(present.names) != set(where.names):
            return "its names have changed"
        if issuing and not present.issued_by(issuing.certificate):
            return "another CA issues now"
        if present.due(now):
            return "two thirds of its life are over"
        try:
            present.check(self._file.authorities.trusted, where.names, now)
        except CertificateRejected as error:
            return str(error)
        return ""

    def _own(self, source: Path, where: Place) -> tuple[Leaf, str]:
        """Return the operator's certificate, and the trusted CAs. Raises CertificateRejected, and OSError.

        One of the names is enough: an operator has no certificate for all of the inner ones.
        """
        leaf = Leaf.read("\n".join((source / name).read_text(errors="replace") for name in (_CHAIN, _KEY)))
        trust, problems = self._file.authorities.trusted, []
        for name in where.names:
            try:
                leaf.check(trust, [name], self._now())
            except WrongHost as error:
                problems.append(error)
        if len(problems) == len(where.names):
            raise problems[0]
        return leaf, trust or leaf.chain

    def _serve(self, leaves: dict[Place, Leaf], changed: set[Place], patience: float) -> dict[Place, PlaceStatus]:
        """Have each certificate loaded and return what is served. What is not served counts as not loaded."""
        until, loaded = time.monotonic() + patience, set[Place]()
        found: dict[Place, PlaceStatus] = {}
        while True:
            for where, leaf in leaves.items():
                if where in found and found[where].state == "served":
                    continue
                found[where] = self._looked_at(where, leaf)
                if where not in loaded and (where in changed or found[where].state == "not served"):
                    loaded.add(where)
                    found[where] = self._loaded(where, leaf)
            if all(each.state == "served" for each in found.values()) or time.monotonic() >= until:
                return found
            time.sleep(_LOOK_S)

    def _loaded(self, where: Place, leaf: Leaf) -> PlaceStatus:
        """Have a service load its certificate. RabbitMQ and our own services look at the date of the file."""
        try:
            if where.starttls != "postgres":
                date(where.folder)
            elif self._file.registry_dsn:
                reload_postgres(self._file.registry_dsn)
        except (KryonixError, OSError) as error:
            return self._status(where, leaf, "not answering", str(error))
        return self._looked_at(where, leaf)

    def _looked_at(self, where: Place, leaf: Leaf) -> PlaceStatus:
        try:
            # Nodes and our own services choose by the name.
            now = served(*where.address, starttls=where.starttls, name=where.names[0], timeout=_ANSWER_S)
        except CertificateUnreadable as error:
            return self._status(where, leaf, "not answering", str(error))
        if now.serial != leaf.serial:
            return self._status(where, leaf, "not served", f"{where.endpoint} still serves {now.serial:x}")
        return self._status(where, leaf, "served")

    def _status(self, where: Place, leaf: Leaf | None, state: State, problem: str = "") -> PlaceStatus:
        known = PlaceStatus(role=where.role, state=state, endpoint=where.endpoint, problem=problem)
        if leaf is None:
            return known
        renews = leaf.starts + (leaf.expires - leaf.starts) * 2 / 3
        return PlaceStatus(
            **{name: value for name, value in asdict(known).items() if value},
            names=leaf.names,
            serial=f"{leaf.serial:x}",
            issuer=leaf.certificate.issuer.rfc4514_string(),
            expires=leaf.expires.isoformat(),
            renews="" if self._file.source else renews.isoformat(timespec="seconds"),
        )

    def _public_status(self, shown: Shown, found: Mapping[Place, PlaceStatus], own: PlaceStatus) -> PlaceStatus:
        """Return how a service's public certificate is; `own` is how the service's own is."""
        if shown.leaf is None:
            problem = shown.problem or "none is issued yet"
            return self._status(shown.listener, None, "rejected" if shown.problem else "waiting", problem)
        if shown.listener not in found:
            return self._status(shown.listener, shown.leaf, own.state, own.problem)
        if shown.problem:
            return replace(found[shown.listener], state="rejected", problem=shown.problem)
        return found[shown.listener]

    def _report(self, statuses: Sequence[PlaceStatus]) -> None:
        """Write the status file, and log what has changed."""
        for each in statuses:
            listener = each.role, each.endpoint
            if self._known.get(listener) != (each.state, each.problem):
                self._known[listener] = each.state, each.problem
                level = logging.INFO if each.state in ("served", "waiting", "not answering") else logging.ERROR
                log.log(level, "%s: %s%s", each.role, each.state, each.problem and f": {each.problem}")
        text = json.dumps(status_json(statuses, self._now()), indent=2)
        new = self._folder / f".{STATUS}.new"
        new.write_text(text)
        new.replace(self._folder / STATUS)


def status_json(statuses: Sequence[PlaceStatus], at: datetime) -> dict[str, Any]:
    """Return the places' statuses as the status file has them."""
    return {"at": at.isoformat(timespec="seconds"), "places": [asdict(each) for each in statuses]}


def _taken(folder: Path) -> bool:
    """Return True once the service has made the folder its own; before, its files would have the wrong owner."""
    return folder.is_dir() and folder.stat().st_uid != 0


def _beside(where: Place, leaf: Leaf, public: Shown | None) -> Leaf | None:
    """Return what a service shows under public names: its own certificate until there is a public one, and after."""
    if public is not None:
        return public.leaf or leaf
    return leaf if (where.folder / PUBLIC).exists() else None


def _day(time: datetime) -> str:
    return f"{time:%Y-%m-%d}"
