"""Property values in three forms: on the wire (protobuf), in the engine (Python) and in the state (JSON).

In Python a secret, at any depth, is wrapped in `Secret`; an unknown value is `UNKNOWN`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from google.protobuf import struct_pb2  # type: ignore[import-untyped]  # protobuf ships no stubs

from kryonix.engines.local.errors import UnsupportedFeature
from kryonix.engines.local.handlers.base import UNKNOWN, Properties

UNKNOWN_TEXT: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
SIGNATURE: Final = "4dabf18193072939515e22adb298388d"
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
    return struct_pb2.Struct(fields={key: _to_wire(value) for key, value in properties.items()})


def _to_wire(value: Any) -> struct_pb2.Value:
    if isinstance(value, str):
        return struct_pb2.Value(string_value=value)
    if isinstance(value, bool):
        return struct_pb2.Value(bool_value=value)
    if isinstance(value, int | float):
        return struct_pb2.Value(number_value=value)
    if isinstance(value, dict):
        return struct_pb2.Value(struct_value=to_struct(value))
    if isinstance(value, list | tuple):
        return struct_pb2.Value(list_value=struct_pb2.ListValue(values=[_to_wire(item) for item in value]))
    if isinstance(value, Secret):
        return _to_wire({SIGNATURE: SECRET_SIGNATURE, "value": value.value})
    if value is UNKNOWN:
        return struct_pb2.Value(string_value=UNKNOWN_TEXT)
    return struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)


def plain(value: Any) -> Any:
    """Return the value without secret marks."""
    return _rebuild(value, lambda secret: secret.value)


def redact(value: Any) -> Any:
    """Return the value with `[secret]` for secrets."""
    return _rebuild(value, lambda _: "[secret]")


def encode(value: Any, seal: Callable[[str], str]) -> Any:
    """Return the value as the state keeps it; `seal` encrypts a secret's JSON."""

    def sealed(secret: Secret) -> Any:
        # Only the entries of a preview, which are never written, can hold unknown values.
        text = json.dumps(secret.value, separators=(",", ":"), default=lambda _: UNKNOWN_TEXT)
        return {SIGNATURE: SECRET_SIGNATURE, "ciphertext": seal(text)}

    return _rebuild(value, sealed)


def decode(value: Any, unseal: Callable[[str], str]) -> Any:
    """Return a value of the state; `unseal` decrypts a secret's JSON."""
    if isinstance(value, dict):
        if value.get(SIGNATURE) == SECRET_SIGNATURE:
            return Secret(json.loads(unseal(value["ciphertext"])))
        return {key: decode(item, unseal) for key, item in value.items()}
    return [decode(item, unseal) for item in value] if isinstance(value, list) else value


def has_secret(value: Any) -> bool:
    """Return True if the value contains a secret."""
    return _contains(value, lambda item: isinstance(item, Secret))


def has_unknown(value: Any) -> bool:
    """Return True if any part of the value is unknown."""
    return _contains(value, lambda item: item is UNKNOWN or (isinstance(item, Secret) and has_unknown(item.value)))


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


def _rebuild(value: Any, of_secret: Callable[[Secret], Any]) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, Secret):
        return of_secret(value)
    if isinstance(value, dict):
        return {key: _rebuild(item, of_secret) for key, item in value.items()}
    return [_rebuild(item, of_secret) for item in value] if isinstance(value, list | tuple) else value


def _contains(value: Any, wanted: Callable[[Any], bool]) -> bool:
    if wanted(value):
        return True
    if isinstance(value, dict):
        return any(_contains(item, wanted) for item in value.values())
    return isinstance(value, list | tuple) and any(_contains(item, wanted) for item in value)
