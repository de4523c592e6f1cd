"""Where a tenant's alerts go: a webhook, e-mail addresses, or both."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from kryonix.topology.document import Model, as_tuple
from kryonix.topology.errors import shown

MAX_ADDRESSES: Final = 20
_LONGEST: Final = 2_000
_LONGEST_ADDRESS: Final = 254
# No braces anywhere: Alertmanager expands templates.
_CHARACTERS: Final = re.compile(r"(?:[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})+")
_URL: Final = re.compile(
    r"(?P<origin>https?://)(?P<login>[^/?@]*@)?"
    r"(?P<host>(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[(?P<ipv6>[0-9A-Fa-f:.]+)\])(?::(?P<port>[0-9]{1,5}))?)(?:[/?].*)?"
)
_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`|~-]+"
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS: Final = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*")


def masked_url(url: str) -> str:
    """Return a URL's scheme and host only: its path or query may hold a token."""
    parts = _URL.fullmatch(url)
    return f"{parts['origin']}{parts['host']}/…" if parts else "…"


def _webhook(value: str) -> str:
    """Return a URL that HTTP clients of every kind understand. Raises ValueError, without the URL's path."""
    rule = f"{masked_url(value)!r} is not a valid webhook"
    if len(value) > _LONGEST:
        raise ValueError(f"{rule}: it is longer than {_LONGEST:,} characters")
    if not _CHARACTERS.fullmatch(value):
        remedy = "Write a URL such as https://hooks.example.com/alerts, with special characters as %XX"
        raise ValueError(f"{rule}: it is empty, or has characters that a URL can't have. {remedy}")
    parts = _URL.fullmatch(value)
    if parts is None or not 0 < int(parts["port"] or 1) < 65_536 or not _is_ipv6(parts["ipv6"] or "::1"):
        raise ValueError(f"{rule}: it is no URL such as https://hooks.example.com/alerts")
    if parts["login"]:
        raise ValueError(f"{rule}: it has a login. Put a token into the path or the query instead")
    return value


def _is_ipv6(host: str) -> bool:
    try:
        return bool(ipaddress.IPv6Address(host))
    except ValueError:
        return False


def _addresses(values: tuple[str, ...]) -> tuple[str, ...]:
    wrong = [value for value in values if len(value) > _LONGEST_ADDRESS or not _ADDRESS.fullmatch(value)]
    if wrong:
        raise ValueError(f"{', '.join(map(shown, wrong[:5]))} is not an e-mail address, such as ops@example.com")
    if len(set(values)) < len(values):
        twice = next(value for value in values if values.count(value) > 1)
        raise ValueError(f"{shown(twice)} is in the list twice. Keep one")
    return values


class Notify(Model):
    """Where a tenant's alerts go: a webhook, e-mail addresses, or both."""

    webhook: Annotated[str, AfterValidator(_webhook)] | None = Field(
        None, description="URL to which Alertmanager posts the tenant's alerts", json_schema_extra={"format": "uri"}
    )
    email: Annotated[tuple[str, ...], BeforeValidator(as_tuple), AfterValidator(_addresses)] = Field(
        (), max_length=MAX_ADDRESSES, description="E-mail addresses to which Alertmanager sends them"
    )

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if self.webhook is None and not self.email:
            raise ValueError("expected `webhook`, `email` or both. Remove `notify` to send no notifications")
        return self

    @classmethod
    def stored(cls, value: Any) -> Self | None:
        """Return a stored value; None for none, and for one that is not valid: no tenant's may stop a command."""
        try:
            return None if value is None else cls.model_validate(value)
        except ValidationError:
            return None

    def plain(self) -> dict[str, Any]:
        """Return the value to store."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def masked(self) -> dict[str, Any]:
        """Return the value to show."""
        return {"webhook": None if self.webhook is None else masked_url(self.webhook), "email": list(self.email)}

    def __str__(self) -> str:
        return ", ".join([*([masked_url(self.webhook)] if self.webhook else ()), *self.email])

    def __repr__(self) -> str:
        return f"Notify({self})"
