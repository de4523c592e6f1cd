"""The shapes of a tenant's members: what of each entry is read. More fields, of other versions, are kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from kryonix.backup.errors import InvalidBundle

_DEEPEST: Final = 64
"""Levels of nesting: code that walks through values calls itself."""


class _Shape(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Vhost(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    description: str
    tags: list[str]
    default_queue_type: str
    protected: bool


class _Object(_Shape):
    name: str
    vhost: None = None
    """A vhost's definitions do not name it."""


class _Binding(_Shape):
    source: str
    destination: str
    destination_type: Literal["queue", "exchange"]
    routing_key: str
    arguments: dict[str, Any]
    vhost: None = None


class _Parameter(_Object):
    component: str
    value: Any


class _Limits(_Object):
    component: Literal["vhost-limits"]
    value: dict[str, int] | Annotated[list[Any], Field(max_length=0)]


def _kind_of_parameter(value: Any) -> str:
    return "limits" if isinstance(value, dict) and value.get("component") == "vhost-limits" else "other"


_AnyParameter = Annotated[
    Annotated[_Limits, Tag("limits")] | Annotated[_Parameter, Tag("other")], Discriminator(_kind_of_parameter)
]


class _Definitions(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    exchanges: list[_Object]
    queues: list[_Object]
    bindings: list[_Binding]
    policies: list[_Object]
    parameters: list[_AnyParameter]


class _User(_Shape):
    name: str
    password_hash: str  # empty for a user that logs in with a certificate
    hashing_algorithm: Literal["rabbit_password_hashing_sha256", "rabbit_password_hashing_sha512"]
    tags: list[str]
    limits: dict[str, int]


class _TopicRight(_Shape):
    user: str
    exchange: str
    write: str
    read: str


class _Right(_Shape):
    user: str
    configure: str
    write: str
    read: str


class _Row(_Shape):
    cliente_id: str = ""
    vhost: str = ""
    username: str = ""


class _Entry(_Shape):
    id: str


class _Resource(_Shape):
    urn: str
    type: str
    id: str = ""
    inputs: dict[str, Any] | None = None
    outputs: dict[str, Any] | None = None


class _Operation(_Shape):
    resource: _Resource


class _Deployment(_Shape):
    resources: list[_Resource] | None = None
    pending_operations: list[_Operation] | None = None


class _State(_Shape):
    deployment: _Deployment


class _Tenant(_Shape):
    vhost: _Vhost
    definitions: _Definitions
    users: list[_User]
    permissions: list[_Right]
    topic_permissions: list[_TopicRight]
    rows: dict[str, list[_Row]]
    entry: _Entry
    state: _State | None


def check_shape(where: str, values: Mapping[str, Any]) -> None:
    """Raise InvalidBundle, which names `where`, for fields of a tenant's snapshot that are not what they have to be."""
    try:
        _Tenant.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))[:100]
        raise InvalidBundle(where, f"{place!a} is not as this version's bundles have it: {first['msg']}") from None


def parse_member(where: str, name: str, text: bytes) -> Any:
    """Return a member's value. Raises InvalidBundle, which names `where`, if it is not JSON, or too deep."""
    try:
        value = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise InvalidBundle(where, f"{name} is not JSON") from None
    level = [value]
    for _ in range(_DEEPEST):
        level = [inner for each in level for inner in _inside(each)]
        if not level:
            return value
    raise InvalidBundle(where, f"{name} is nested more than {_DEEPEST} levels deep")


def _inside(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are Python's, and no JSON
