"""`pulumi.StackReference` and the engine's functions that read outputs, from the same state folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

from kryonix.engines.local.errors import InvalidProgramInput, UnsupportedFeature
from kryonix.engines.local.handlers.base import Properties
from kryonix.engines.local.resource import STACK_TYPE, Resource
from kryonix.engines.local.run import Target
from kryonix.engines.local.secrets import Vault
from kryonix.engines.local.state import State
from kryonix.engines.local.store import Store
from kryonix.engines.local.values import has_secret
from kryonix.errors import KryonixError

READ_STACK_OUTPUTS: Final = "pulumi:pulumi:readStackOutputs"
READ_RESOURCE_OUTPUTS: Final = "pulumi:pulumi:readStackResourceOutputs"
STACK_REFERENCE_TYPE: Final = "pulumi:pulumi:StackReference"


def outputs_of(state: State, vault: Vault) -> Properties:
    """Return a stack's outputs, with secrets marked."""
    found = (data for data in state.resources.values() if data["type"] == STACK_TYPE)
    stack = next(found, None)
    return Resource.decode(stack, vault).outputs if stack else {}


class StackReferences:
    """Resolve references to stacks of this project, all in one state folder."""

    def __init__(self, target: Target, store: Store, own: Callable[[], Sequence[Resource]]) -> None:
        """`own` returns the resources of the running stack, including those of interrupted creates."""
        self._target = target
        self._own = own
        self._root = store.folder.parent

    def warm(self, names: Iterable[str]) -> None:
        """Start to derive the keys of the stacks among the names: references usually come from the config."""
        for name in names:
            parts = name.split("/")
            if len(parts) == 3 and parts[1] == self._target.project and parts[2] != self._target.stack:
                with suppress(KryonixError):  # raised when the reference is read
                    self._vault(Store(self._root, parts[2]).load(), parts[2]).warm()

    def read(self, name: str) -> Properties:
        """Return the outputs of a StackReference resource. Raise `InvalidProgramInput` if there is no such stack."""
        stack = self._stack_of(name)
        if stack == self._target.stack:
            outputs = next((r.outputs for r in self._own() if r.type == STACK_TYPE), {})
        else:
            store = Store(self._root, stack)
            if not store.exists:
                known = sorted(path.name for path in self._root.glob("*") if path.is_dir())
                raise InvalidProgramInput(
                    f"StackReference {name!r}: there is no stack {stack!r} in {self._root}. "
                    f"Stacks there: {', '.join(known) or 'none'}. Bring it up first."
                )
            state = store.load()
            outputs = outputs_of(state, self._vault(state, stack))
        secrets = sorted(key for key, value in outputs.items() if has_secret(value))
        return {"name": name, "outputs": outputs, "secretOutputNames": secrets}

    def read_resources(self, name: str) -> Properties:
        """Return the outputs of each resource of the running stack by URN. Raise `UnsupportedFeature` for another."""
        if self._stack_of(name) != self._target.stack:
            raise UnsupportedFeature.of(f"the resources of another stack, {name!r}")
        found = {r.urn: {"type": r.type, "outputs": r.outputs or r.inputs} for r in self._own() if not r.delete}
        return {"name": name, "outputs": found}

    @staticmethod
    def _vault(state: State, stack: str) -> Vault:
        return Vault(state.salt, where=f"the state of stack {stack!r}")

    def _stack_of(self, name: str) -> str:
        parts = name.split("/")
        if len(parts) == 1 or (len(parts) == 3 and parts[1] == self._target.project):
            return parts[-1]
        raise InvalidProgramInput(
            f"StackReference {name!r} is not a stack of this project: name it {{stack}} or "
            f"organization/{self._target.project}/{{stack}}."
        )
