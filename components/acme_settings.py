"""AcmeSettings: the config of the certificate for public names, which a CA outside issues by ACME."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import pulumi

_KEY: Final = "kryonix:acmeDirectory"
_LABEL: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_NAME: Final = re.compile(rf"(?=.{{1,253}}$)({_LABEL}\.)+(?![0-9]+$){_LABEL}")
"""A public DNS name: two parts or more, of which the last is no number."""
_CONTACT: Final = re.compile(r"[^@\s]+@[^@\s]+")


@dataclass(frozen=True, kw_only=True)
class AcmeSettings:
    """The CA's directory, and the names under which clients reach the platform, in lower case.

    `port` is where the CA's challenge is answered, on the bind address: port 80 of the names has to lead there.
    """

    directory: str
    names: Sequence[str]
    contact: str = ""
    port: int = 80

    @classmethod
    def load(cls, config: pulumi.Config, advertised_host: str) -> AcmeSettings | None:
        """Return the stack's settings, None where no CA is named. By default the name is the advertised host."""
        if not (directory := config.get("acmeDirectory")):
            return None
        return cls(
            directory=directory,
            names=tuple(str(name).lower() for name in config.require_object("acmeNames") or [advertised_host]),
            contact=config.get("acmeContact") or "",
            port=config.require_int("acmePort"),
        )

    def problems(self) -> list[str]:
        """Return what a CA would not take."""
        problems = []
        if not _is_directory(self.directory):
            remedy = "Give the CA's, as https://acme-v02.api.letsencrypt.org/directory, without a login"
            given = "the value" if "@" in self.directory else repr(self.directory)  # it may hold a password
            problems.append(f"{_KEY}: {given} is not the https URL of a directory. {remedy}")
        problems += [
            f"{_KEY}: {name!r} is not a public DNS name, and no certificate is asked for another. Set "
            "kryonix:advertisedHost to one, as messaging.example.com, or list them in kryonix:acmeNames"
            for name in self.names
            if not _NAME.fullmatch(name)
        ]
        if len(set(self.names)) < len(self.names):
            problems.append(f"kryonix:acmeNames: {list(self.names)} has a name twice. List each once")
        if self.contact and not _CONTACT.fullmatch(self.contact):
            problems.append(f"kryonix:acmeContact: {self.contact!r} is not an e-mail address. Give one, or none")
        return problems


def _is_directory(text: str) -> bool:
    """Return True for a URL with `https` in lower case, as the keeper's file wants it."""
    with suppress(ValueError):
        url = urlsplit(text)
        known = text.startswith("https://") and url.hostname and url.port != 0 and url.username is None
        return bool(known and text.isprintable() and " " not in text)
    return False
