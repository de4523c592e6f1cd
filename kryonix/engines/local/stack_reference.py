"""`pulumi.StackReference`: another stack's outputs, from the same state folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from kryonix.engines.local.errors import InvalidProgramInput, LocalError, UnsupportedFeature
from kryonix.engines.local.handlers.base import Properties
from kryonix.engines.local.resource import Resource
from kryonix.engines.local.run import Target
from kryonix.engines.local.secrets import Vault, read_passphrase
from kryonix.engines.local.state import State
from kryonix.engines.local.store import Store
from kryonix.engines.local.urn import STACK_TYPE
from kryonix.engines.local.values import Secret, has_secret

__all__ = ["READ_RESOURCE_OUTPUTS", "READ_STACK_OUTPUTS", "STACK_REFERENCE_TYPE", "StackReferences", "outputs_of"]

READ_STACK_OUTPUTS = "pulumi:pulumi:readStackOutputs"
READ_RESOURCE_OUTPUTS = "pulumi:pulumi:readStackResourceOutputs"

STACK_REFERENCE_TYPE = "pulumi:pulumi:StackReference"


def outputs_of(state: State, vault: Vault) -> Properties:
    """A stack's outputs, secrets marked."""
    for data in state.resources.values():
        if data["type"] == STACK_TYPE:
            return Resource.decode(data, vault).outputs
    return {}


def _vault(state: State, stack: str) -> Vault:
    return Vault(read_passphrase, state.salt or None, where=f"the state of stack {stack!r}")


def _answer(name: str, outputs: Properties) -> Properties:
    secrets = sorted(key for key, value in outputs.items() if has_secret(value))
    return {"name": name, "outputs": outputs, "secretOutputNames": secrets}


class StackReferences:
    """Resolves references to stacks of the same project, whose state lies beside this one's."""

    def __init__(self, target: Target, store: Store, own: Callable[[], Sequence[Resource]]) -> None:
        """`own` gives the resources of the stack that runs: what is there, and what may be."""
        self._target = target
        self._own = own
        self._root = store.folder.parent

    def warm(self, names: Iterable[str]) -> None:
        """Start deriving the keys of those names that are a stack's here, as config is where references come from."""
        for name in names:
            parts = name.split("/")
            if len(parts) == 3 and parts[1] == self._target.project and parts[2] != self._target.stack:
                with suppress(LocalError):  # it is told to who reads it
                    _vault(Store(self._root, parts[2]).load(), parts[2]).warm()

    def read(self, name: str) -> Properties:
        """What a StackReference resource has as outputs. Raises `InvalidProgramInput` for a stack that isn't there."""
        stack = self._stack_of(name)
        if stack == self._target.stack:
            return _answer(name, next((r.outputs for r in self._own() if r.type == STACK_TYPE), {}))
        store = Store(self._root, stack)
        if not store.exists:
            known = sorted(path.name for path in self._root.iterdir() if path.is_dir()) if self._root.is_dir() else []
            raise InvalidProgramInput(
                f"StackReference {name!r}: there is no stack {stack!r} in {self._root}. "
                f"Stacks there: {', '.join(known) or 'none'}. Bring it up first."
            )
        state = store.load()
        return _answer(name, outputs_of(state, _vault(state, stack)))

    def read_resources(self, name: str) -> Properties:
        """The outputs of each resource of the stack that runs, by URN. Raises `UnsupportedFeature` for another."""
        if self._stack_of(name) != self._target.stack:
            raise UnsupportedFeature(f"the resources of the stack {name!r} can't be read while another one runs.")
        found = {r.urn: {"type": r.type, "outputs": r.outputs or r.inputs} for r in self._own() if not r.delete}
        return {"name": name, "outputs": found}

    def _stack_of(self, name: str | Secret) -> str:
        parts = str(name).split("/")
        if len(parts) == 1:
            return parts[0]
        if len(parts) == 3 and parts[1] == self._target.project:
            return parts[2]
        raise InvalidProgramInput(
            f"StackReference {name!r}: the local engine knows stacks of its own project only, named {{stack}} or "
            f"organization/{self._target.project}/{{stack}}."
        )
