"""The seam between the local engine and what it manages: one handler per resource type.

The engine speaks Pulumi's protocol and decides *what* happens to a resource; a handler knows *how*, the way a provider
plugin does for the Pulumi CLI. Property names are the wire's (camelCase), values are plain Python: secrets arrive
unwrapped, a value that is not known yet (preview only) is `UNKNOWN`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, final

__all__ = ["UNKNOWN", "Diff", "Handler", "Live", "Properties", "Provider", "Unknown"]

Properties = dict[str, Any]


@final
class Unknown:
    """The type of `UNKNOWN`; there is one instance."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = Unknown()


@dataclass(frozen=True, slots=True)
class Diff:
    """What an update would change: names of top-level inputs."""

    changed: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    delete_before_replace: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class Live:
    """A resource as it stands in the real world, read back by `Handler.read`."""

    id: str
    inputs: Properties
    outputs: Properties


class Handler(Protocol):
    """What can be done with resources of one type. Every call may block; the engine runs it in a thread."""

    @property
    def secret_outputs(self) -> frozenset[str]:
        """Outputs that are secret whatever the inputs were (a generated password)."""

    def check(self, old: Mapping[str, Any] | None, new: Properties) -> Properties:
        """The inputs to work with: defaults filled in. Raises `InvalidInputs` for what can never be applied."""

    def diff(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Diff:
        """What differs between the inputs of the last deployment and the new ones. No I/O."""

    def create(self, inputs: Properties) -> tuple[str, Properties]:
        """Make it and return its id and outputs. Raises where there is one already that holds data."""

    def recreate(self, inputs: Properties) -> tuple[str, Properties]:
        """Make it where an earlier run may have begun to. Idempotent: made again over a half-made one, it converges."""

    def prepare(self, old_inputs: Properties, new_inputs: Properties) -> None:
        """Raise what would keep a replacement from being made, while the old one is still there."""

    def read(self, id: str, inputs: Properties, outputs: Properties) -> Live | None:
        """The resource as it is now, or None where it is gone."""

    def update(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Properties:
        """Change it in place and return its outputs."""

    def delete(self, id: str, inputs: Properties, outputs: Properties) -> None:
        """Remove it; one that is already gone is no error."""


class Provider(Protocol):
    """A configured provider: one instance per provider resource in the program."""

    def handler(self, type_token: str) -> Handler:
        """The handler of a type, such as `rabbitmq:index/queue:Queue`. Raises `UnsupportedResource`."""

    def close(self) -> None:
        """Release connections."""
