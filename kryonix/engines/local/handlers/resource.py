"""What the handlers of a package share: checking and comparing by a table of fields, and finding a type's handler."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from kryonix.engines.local.errors import InvalidInputs, UnsupportedResource
from kryonix.engines.local.handlers.base import UNKNOWN, Diff, Handler, Properties
from kryonix.engines.local.handlers.fields import Fields, checked, difference

__all__ = ["HandlerTable", "Resource"]


class Resource(ABC):
    """The half of a handler that needs no I/O. A subclass names its type and fields and does the rest."""

    pulumi_type: ClassVar[str]
    fields: ClassVar[Fields]
    secret_outputs: frozenset[str] = frozenset()
    replaced_in_place: ClassVar[bool] = False
    """Whether a replacement can never stand beside what it replaces."""

    def check(self, old: Mapping[str, Any] | None, new: Properties) -> Properties:
        """The inputs with defaults; see `Handler.check`."""
        values, problems = checked(self.fields, new)
        if problems:
            raise InvalidInputs("\n".join(f"{self.pulumi_type}: {problem}" for problem in problems))
        return values

    @abstractmethod
    def create(self, inputs: Properties) -> tuple[str, Properties]:
        """Make it; see `Handler.create`."""

    def recreate(self, inputs: Properties) -> tuple[str, Properties]:
        """Make it again: for most, to create is idempotent; see `Handler.recreate`."""
        return self.create(inputs)

    def prepare(self, old_inputs: Properties, new_inputs: Properties) -> None:
        """Most need nothing; see `Handler.prepare`."""
        return

    def diff(self, id: str, old_inputs: Properties, old_outputs: Properties, new_inputs: Properties) -> Diff:
        """What differs; see `Handler.diff`."""
        diff = difference(self.fields, old_inputs, new_inputs)
        if not diff.replaces:
            return diff
        # Two things of one name can't exist at once: the old one goes first.
        name = new_inputs.get("name")
        same_name = name is not None and name is not UNKNOWN and name == old_inputs.get("name")
        return replace(diff, delete_before_replace=self.replaced_in_place or same_name)


@dataclass(frozen=True, slots=True)
class HandlerTable:
    """A configured package: its handlers by type token."""

    package: str
    handlers: Mapping[str, Handler]
    on_close: Callable[[], None]

    @staticmethod
    def of(package: str, handlers: Iterable[Any], on_close: Callable[[], None] = lambda: None) -> HandlerTable:
        """A table of handlers, each of which names its type as `pulumi_type`."""
        return HandlerTable(package, {handler.pulumi_type: handler for handler in handlers}, on_close)

    def handler(self, type_token: str) -> Handler:
        """The handler of a type; see `Provider.handler`."""
        found = self.handlers.get(type_token)
        if found is None:
            near = difflib.get_close_matches(type_token, self.handlers, n=1)
            hint = f"the nearest it knows is {near[0]}" if near else f"it knows {', '.join(sorted(self.handlers))}"
            raise UnsupportedResource(
                f"the local engine does not implement the resource type {type_token}: {hint}. "
                "Use the Pulumi CLI for this program, or leave the resource out."
            )
        return found

    def close(self) -> None:
        """Release connections."""
        self.on_close()
