"""The keeper's file: who issues, who is trusted, and where certificates belong."""

from __future__ import annotations

import hashlib
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from kryonix.certificates.authority import Authority
from kryonix.errors import InvalidChoice


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _plain(name: str) -> str:
    """Return an IP address in the form that certificates show, or a host name as it is."""
    try:
        return str(ip_address(name))
    except ValueError:
        return name


class Place(_Part):
    """A service's folder, the names of its certificate, and the listener that serves it."""

    role: str
    folder: Path
    names: Annotated[tuple[Annotated[str, AfterValidator(_plain)], ...], Field(min_length=1)]
    endpoint: Annotated[str, Field(pattern=r"^(\[[^\]]+\]|[^:]+):[0-9]{1,5}$")]
    starttls: Literal["", "postgres"] = ""
    public: bool = False
    """True if the service has a second certificate, which it shows to clients that ask for a public name."""

    @property
    def address(self) -> tuple[str, int]:
        """The listener's host and port."""
        host, _, port = self.endpoint.rpartition(":")
        return host.strip("[]"), int(port)


class Issuing(_Part):
    """The CA that issues."""

    certificate: str
    key: str = Field(repr=False)

    @property
    def authority(self) -> Authority:
        return Authority(certificate=self.certificate, key=self.key)


class Authorities(_Part):
    """The CA that issues, and the certificates of all that are trusted: as CAs of services, and of clients."""

    issuing: Issuing | None = None
    trusted: str = ""
    clients: str = ""


class Acme(_Part):
    """A CA that issues by ACME, and the public names for which.

    `folder` is the keeper's own, for the account's key and the newest certificate. `trusted` are the CAs (PEM) that
    clients trust under public names. The directory's own certificate may be of one of them, or of the system's.
    """

    directory: Annotated[str, Field(pattern="^https://")]
    folder: Path
    names: Annotated[tuple[str, ...], Field(min_length=1)]
    contact: str = ""
    """An e-mail address that the CA may write to."""
    port: Annotated[int, Field(ge=1, le=65535)] = 80
    """Where the keeper answers the CA's challenge; port 80 of the names has to lead here."""
    trusted: str

    @property
    def kept(self) -> Path:
        """The folder of what this CA knows and has issued. With another directory everything starts anew."""
        return self.folder / hashlib.sha256(self.directory.encode()).hexdigest()[:16]


class KeeperFile(_Part):
    """What the keeper has to do. With a `source`, its certificate is placed, and no CA of the platform issues any."""

    authorities: Authorities
    places: tuple[Place, ...]
    source: Path | None = None
    acme: Acme | None = None
    registry_dsn: str | None = Field(default=None, repr=False)

    @model_validator(mode="after")
    def _has_a_source(self) -> KeeperFile:
        if self.source is None and self.authorities.issuing is None:
            raise ValueError("give authorities.issuing, or source")
        if self.source and self.acme:
            raise ValueError("acme is beside authorities.issuing, not beside source")
        if any(place.public for place in self.places) and self.acme is None:
            raise ValueError("a public place needs acme")
        return self


def read_keeper_file(file: Path) -> KeeperFile:
    """Return the keeper's file. Raises InvalidChoice, whose message has none of its secrets, if it is not one."""
    try:
        found = KeeperFile.model_validate_json(file.read_bytes())
        if found.authorities.issuing:
            found.authorities.issuing.authority.check()
        return found
    except OSError as error:
        raise InvalidChoice(f"{str(file)!r} can't be read: {error.strerror}. `kryonix up` makes it") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "it"
        raise InvalidChoice(f"{str(file)!r}: {where}: {first['msg']}. `kryonix up` makes it again") from None
