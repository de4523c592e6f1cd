"""`pulumi.StackReference` and the engine's functions that read outputs, from the same state folder."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

from kryonix.engines.local.errors import InvalidProgramInput, UnsupportedFeature
from kryonix.engines.local.handlers.base import Properties
from kryonix.engines.local.resource import STACK_TYPE, Resource
from kryonix.engines.local.run import Run
from kryonix.engines.local.store import Store
from kryonix.engines.local.values import has_secret
from kryonix.errors import KryonixError

READ_STACK_OUTPUTS: Final = "pulumi:pulumi:readStackOutputs"
READ_RESOURCE_OUTPUTS: Final = "pulumi:pulumi:readStackResourceOutputs"
STACK_REFERENCE_TYPE: Final = "pulumi:pulumi:StackReference"


def outputs_of(store: Store) -> Properties:
    """Return the stored outputs of a stack, with secrets marked."""
    state = store.load()
    found = (data for data in state.resources.values() if data["type"] == STACK_TYPE)
    stack = next(found, None)
    return Resource.decode(stack, store.vault(state)).outputs if stack else {}


class StackReferences:
    """Resolve references to stacks of this project, all in one state folder."""

    def __init__(self, run: Run, root: Path) -> None:
        self._run = run
        self._root = root

    def warm(self) -> None:
        """Start to derive the keys of the stacks that the config names: references usually come from there."""
        for name in self._run.config.values.values():
            parts = name.split("/")
            if len(parts) == 3 and parts[1] == self._run.project.name and parts[2] != self._run.stack:
                with suppress(KryonixError):  # raised when the reference is read
                    store = Store(self._root, parts[2])
                    store.vault(store.load()).warm()

    def read(self, name: str) -> Properties:
        """Return the outputs of a StackReference resource. Raise `InvalidProgramInput` if there is no such stack."""
        stack = self._stack_of(name)
        if stack == self._run.stack:
            outputs = next((r.outputs for r in self._run.ledger.all() if r.type == STACK_TYPE), {})
        else:
            store = Store(self._root, stack)
            if not store.exists:
                known = sorted(path.name for path in self._root.glob("*") if path.is_dir())
                raise InvalidProgramInput(
                    f"StackReference {name!r}: there is no stack {stack!r} in {self._root}. "
                    f"Stacks there: {', '.join(known) or 'none'}. Bring it up first."
                )
            outputs = outputs_of(store)
        secrets = sorted(key for key, value in outputs.items() if has_secret(value))
        return {"name": name, "outputs": outputs, "secretOutputNames": secrets}

    def read_resources(self, name: str) -> Properties:
        """Return the outputs of each resource of the running stack by URN. Raise `UnsupportedFeature` for another."""
        if self._stack_of(name) != self._run.stack:
            raise UnsupportedFeature.of(f"the resources of another stack, {name!r}")
        own = [*self._run.ledger.all(), *self._run.ledger.possibly_created()]
        found = {r.urn: {"type": r.type, "outputs": r.outputs or r.inputs} for r in own if not r.delete}
        return {"name": name, "outputs": found}

    def _stack_of(self, name: str) -> str:
        parts = name.split("/")
        if len(parts) == 1 or (len(parts) == 3 and parts[1] == self._run.project.name):
            return parts[-1]
        raise InvalidProgramInput(
            f"StackReference {name!r} is not a stack of this project: name it {{stack}} or "
            f"organization/{self._run.project.name}/{{stack}}."
        )
