"""The manifest: what a bundle holds, of which tenant or platform, made when and from what."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Annotated, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from kryonix import __version__
from kryonix.backup.errors import InvalidBundle
from kryonix.topology.errors import shown

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
MEMBER: Final = r"[a-z][a-z0-9_-]{0,60}\.json"
"""The pattern of a member's name: a flat name, so that no member leaves the folder where `tar` unpacks it."""

Kind = Literal["tenant", "platform"]
Text = Annotated[str, StringConstraints(pattern=r"^[ -~]{0,200}$")]
"""Text that a terminal shows as it is: a bundle may be hostile."""
Count = Annotated[int, Field(ge=0)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
MemberName = Annotated[str, StringConstraints(pattern=rf"^{MEMBER}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Facts(_Strict):
    """What a bundle was made from.

    `broker` is the broker's version and `broker_nodes` the members of its cluster, `registry` the revision of the
    registry's migrations, `etag` the version of the definitions, and `counts` the objects per noun.
    """

    broker: Text
    broker_nodes: Annotated[int, Field(ge=1)]
    registry: Text
    etag: Text
    counts: Mapping[Text, Count] = Field(default_factory=dict)


class Member(_Strict):
    """The digest and the size of one member."""

    sha256: Sha256
    bytes: Count


def member_of(content: bytes) -> Member:
    return Member(sha256=sha256(content).hexdigest(), bytes=len(content))


class Manifest(Facts):
    """The first member of a bundle. `subject` is a tenant's id, or the platform's stack.

    `at` is the time of the name, at which a scheduled bundle was due. That may be hours before `created_at`.
    """

    format: Literal[1] = 1
    kind: Kind
    subject: Text
    stack: Text
    at: AwareDatetime
    created_at: AwareDatetime
    tool: Text = __version__
    members: Mapping[MemberName, Member]

    @field_validator("at", "created_at")
    @classmethod
    def _in_utc(cls, at: datetime) -> datetime:
        if at.utcoffset() != timedelta(0):
            raise ValueError("is not in UTC")
        return at

    @property
    def facts(self) -> Facts:
        """Return the part that tells what the bundle was made from."""
        return Facts(**{name: getattr(self, name) for name in Facts.model_fields})

    def to_json(self) -> bytes:
        return self.model_dump_json(indent=2).encode() + b"\n"

    @classmethod
    def read(cls, text: bytes, where: str) -> Self:
        """Return the manifest that JSON holds. Raises InvalidBundle, which names `where`."""
        try:
            fields = json.loads(text)
            found, tool = fields.get("format"), str(fields.get("tool"))
        except (AttributeError, ValueError, RecursionError):
            raise InvalidBundle(where, f"{MANIFEST} is not a JSON object") from None
        if type(found) is int and found > FORMAT:
            rule = f"this version of kryonix reads up to {FORMAT}. Use a newer one; {shown(tool, 40)} made the bundle"
            raise InvalidBundle(where, f"has the format {found}, and {rule}")
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise InvalidBundle(where, f"{MANIFEST} is not valid: {_first(error)}") from None


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ascii(".".join(map(str, first["loc"])))[1:-1]
    return f"{place[:100]}: {first['msg']}"
