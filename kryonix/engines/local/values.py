"""Property values in three forms: on the wire (protobuf), in the engine (Python) and in the state (JSON).

In Python a secret, at any depth, is wrapped in `Secret`; an unknown value is `UNKNOWN`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from google.protobuf import struct_pb2  # type: ignore[import-untyped]  # protobuf ships no stubs

from kryonix.engines import nested
from kryonix.engines.deployments import SIGNATURE
from kryonix.engines.local.errors import UnsupportedFeature
from kryonix.engines.local.handlers.base import UNKNOWN, Properties

UNKNOWN_TEXT: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
SECRET_SIGNATURE: Final = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105  Pulumi's mark, no secret


class Secret:
    """A value encrypted in the state and shown to nobody."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = plain(value)

    def __repr__(self) -> str:
        return "Secret()"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.value == self.value

    def __hash__(self) -> int:
        return hash(SECRET_SIGNATURE)


def from_struct(message: struct_pb2.Struct) -> Properties:
    """Return the properties of a request. Raise `UnsupportedFeature`."""
    return {key: _from_wire(value) for key, value in message.fields.items()}


def _from_wire(value: struct_pb2.Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        text = value.string_value
        return UNKNOWN if text == UNKNOWN_TEXT else text
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() else number
    if kind == "bool_value":
        return value.bool_value
    if kind == "list_value":
        return [_from_wire(item) for item in value.list_value.values]
    if kind != "struct_value":
        return None
    fields = from_struct(value.struct_value)
    signature = fields.get(SIGNATURE)
    if signature is None:
        return fields
    if signature == SECRET_SIGNATURE:
        return Secret(fields.get("value"))
    raise UnsupportedFeature.of(f"an asset, an archive or another value with the signature {signature}")


def to_struct(properties: Mapping[str, Any]) -> struct_pb2.Struct:
    """Return the properties of a response, with secrets marked."""

    def marked(part: Any) -> Any:
        if isinstance(part, Secret):
            return {SIGNATURE: SECRET_SIGNATURE, "value": nested.changed(part.value, marked)}
        return UNKNOWN_TEXT if part is UNKNOWN else part

    message = struct_pb2.Struct()
    message.update(nested.changed(properties, marked))
    return message


def plain(value: Any) -> Any:
    """Return the value without secret marks."""
    return nested.changed(value, lambda part: part.value if isinstance(part, Secret) else part)


def redact(value: Any) -> Any:
    """Return the value with `[secret]` for secrets."""
    return nested.changed(value, lambda part: "[secret]" if isinstance(part, Secret) else part)


def encode(value: Any, seal: Callable[[str], str]) -> Any:
    """Return the value as the state keeps it; `seal` encrypts a secret's JSON."""

    def sealed(part: Any) -> Any:
        if not isinstance(part, Secret):
            return part
        # Only the entries of a preview, which are never written, can hold unknown values.
        text = json.dumps(part.value, separators=(",", ":"), default=lambda _: UNKNOWN_TEXT)
        return {SIGNATURE: SECRET_SIGNATURE, "ciphertext": seal(text)}

    return nested.changed(value, sealed)


def decode(value: Any, unseal: Callable[[str], str]) -> Any:
    """Return a value of the state; `unseal` decrypts a secret's JSON."""

    def unsealed(part: Any) -> Any:
        if isinstance(part, dict) and part.get(SIGNATURE) == SECRET_SIGNATURE:
            return Secret(json.loads(unseal(part["ciphertext"])))
        return part

    return nested.changed(value, unsealed)


def has_secret(value: Any) -> bool:
    """Return True if the value contains a secret."""
    return nested.contains(value, lambda part: isinstance(part, Secret))


def has_unknown(value: Any) -> bool:
    """Return True if any part of the value is unknown."""
    return nested.contains(
        value, lambda part: part is UNKNOWN or (isinstance(part, Secret) and has_unknown(part.value))
    )


def mark_secrets(values: Mapping[str, Any], like: Mapping[str, Any], names: frozenset[str] = frozenset()) -> Properties:
    """Return plain `values` with the secret marks of `like`, and with the properties in `names` secret.

    A property with a secret in it becomes secret as a whole if its shape has changed.
    """
    marked: Properties = {}
    for key, value in values.items():
        if key in names:
            marked[key] = Secret(value)
        elif key in like and has_secret(like[key]):
            marked[key] = like[key] if plain(like[key]) == value else Secret(value)
        else:
            marked[key] = value
    return marked


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> set[str]:
    """Return the names of different properties; secret marks do not count."""
    return {key for key in {*old, *new} if plain(old.get(key)) != plain(new.get(key))}
