"""The interface between the engine and what it manages: one handler per resource type.

The engine speaks Pulumi's protocol and decides *what* happens to a resource; a handler knows *how*, as a provider
plugin does for the Pulumi CLI. Property names are the wire's (camelCase). Values are plain Python: secrets arrive
unwrapped; a value not known yet (preview only) is `UNKNOWN`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, final

Properties = dict[str, Any]


@final
class Unknown:
    """The type of `UNKNOWN`, its only instance."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = Unknown()
NOT_YET: Final = (
    "{} can't be reached yet: its address or password comes from resources that don't exist yet. Run `up` first."
)


@dataclass(frozen=True, slots=True)
class Diff:
    """The changes of an update, as names of top-level inputs."""

    changed: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    delete_before_replace: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class LiveResource:
    """A resource as `Handler.read` found it."""

    id: str
    inputs: Properties
    outputs: Properties


class Handler(ABC):
    """Manage resources of one type. Every call may block; the engine runs it in a thread."""

    secret_outputs: frozenset[str] = frozenset()
    """Outputs to encrypt even if no input was secret, such as a generated password."""

    @abstractmethod
    def check(self, old: Mapping[str, Any] | None, new: Properties) -> Properties:
        """Return the inputs with defaults. Raise `InvalidInputs` if they can never be applied."""

    @abstractmethod
    def diff(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Diff:
        """Compare the inputs of the last deployment with the new ones. No I/O."""

    @abstractmethod
    def create(self, inputs: Properties) -> tuple[str, Properties]:
        """Create the resource; return its id and outputs. Raise if one with data exists already."""

    def recreate(self, inputs: Properties) -> tuple[str, Properties]:
        """Create a resource after an interrupted attempt. Idempotent."""
        return self.create(inputs)

    def prepare(self, old_inputs: Properties, new_inputs: Properties) -> None:  # noqa: B027  most need nothing
        """Raise whatever would make a replacement fail, while the old resource still exists."""

    @abstractmethod
    def read(self, id: str, inputs: Properties, outputs: Properties) -> LiveResource | None:
        """Return the resource as it is now, None if it is gone."""

    def update(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Properties:
        """Change the resource in place and return its outputs."""
        return self.create(new_inputs)[1]

    @abstractmethod
    def delete(self, id: str, inputs: Properties, outputs: Properties) -> None:
        """Delete the resource. Succeed if it is already gone."""


class Provider(Protocol):
    """A configured provider: one instance per provider resource in the program."""

    def handler(self, type_token: str) -> Handler:
        """Return the handler of a type, such as `rabbitmq:index/queue:Queue`. Raise `UnsupportedResource`."""

    def close(self) -> None:
        """Release connections."""


ProviderFactory = Callable[[str, Properties], Provider]
