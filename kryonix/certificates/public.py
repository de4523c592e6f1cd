"""The certificate for public names, which a CA outside issues by ACME. A service also has one of the platform's CA."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from kryonix.certificates.leaf import CertificateRejected, Leaf
from kryonix.certificates.placement import PUBLIC, SERVER, locked, placed
from kryonix.certificates.places import Acme, Place

log = logging.getLogger("kryonix.certificates")

ROLE: Final = "public"
"""What a service's listener is called where it is reached by a public name."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a service shows to clients that ask for a public name, and its listener as they reach it.

    Without a `leaf` it shows the certificate of the platform's CA. `problem` is what is wrong with the newest one or
    with its renewal.
    """

    listener: Place
    leaf: Leaf | None
    problem: str


class PublicCertificate:
    """Orders the certificate, and chooses what a service shows to clients that ask for a public name."""

    def __init__(self, acme: Acme, now: Callable[[], datetime]) -> None:
        self._acme, self._now = acme, now
        self._problem = ""

    def order(self, *, force: bool) -> bool:
        """Have it issued if it is due, or forced; return True if there is a new one, or a new reason why there is none.

        What is in place stays till then. It takes seconds, and minutes with a CA that does not answer.
        """
        from kryonix.certificates.acme import AcmeFailed, obtain  # imported late: few platforms need it

        folder = self._acme.kept
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            with locked(folder):
                if not force and not self._due(placed(folder)):
                    self._problem = ""
                    return False
                leaf = obtain(self._acme, force=force)
        except (AcmeFailed, OSError) as error:
            known, self._problem = self._problem, str(error)
            if is_new := self._problem != known:
                log.error("%s", error)
            return is_new
        log.info("%s issued %x, valid until %s", self._acme.directory, leaf.serial, f"{leaf.expires:%Y-%m-%d}")
        self._problem = ""
        return True

    def shown(self, where: Place) -> Shown:
        """Return what a service shows: the newest certificate that clients accept, or else the one in its place."""
        listener = where.model_copy(update={"role": ROLE, "names": self._acme.names})
        problem = self._problem
        for folder, name in ((self._acme.kept, SERVER), (where.folder, PUBLIC)):
            try:
                if found := placed(folder, name):
                    found.check(self._acme.trusted, self._acme.names, self._now())
                    return Shown(listener=listener, leaf=found, problem=problem)
            except (CertificateRejected, OSError) as error:
                if name == SERVER:
                    problem = problem or f"{self._acme.directory} issued one that clients refuse: {error}"
        return Shown(listener=listener, leaf=None, problem=problem)

    def _due(self, present: Leaf | None) -> bool:
        return present is None or present.due(self._now()) or set(present.names) != set(self._acme.names)
