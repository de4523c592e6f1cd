"""PreviousRun: the outputs and containers of this stack's last run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pulumi

from kryonix.engines.deployments import CONTAINER_TYPE
from kryonix.topology.objects import QUEUE

_READ_OUTPUTS: Final = "pulumi:pulumi:readStackOutputs"
_READ_RESOURCES: Final = "pulumi:pulumi:readStackResourceOutputs"

_PAUSES_S: Final = (0.1, 0.5, 2.0)

LAYOUT: Final = 2
"""Version of the dependencies between a platform's resources, in the output `layout`.

1 (without the output): tenants' resources depend on the containers' ids, so an engine that replaces a container
replaces every vhost and queue. 2: they depend on plain values, and on the containers by `depends_on`.
"""

NO_NEW_PRIVILEGES: Final = "no-new-privileges"
"""A security option of every container since layout 2."""


@dataclass(frozen=True, kw_only=True)
class PreviousRun:
    """The outputs of this stack at the start of this run; empty before the first success."""

    outputs: Mapping[str, Any] = field(repr=False)
    containers: Sequence[Mapping[str, Any]] = ()
    """Outputs of the containers in the state; read only if the output `layout` is missing."""

    @classmethod
    def load(cls) -> PreviousRun:
        """Ask the engine by a function call, as a StackReference would not be known before the first resource."""
        outputs = _read_outputs().get("outputs") or {}
        if int(outputs.get("layout") or 1) >= LAYOUT:
            return cls(outputs=outputs)
        try:
            answer = pulumi.runtime.invoke(_READ_RESOURCES, {"stackName": _own_stack()}).value
        except Exception as reason:  # noqa: BLE001, the SDK raises no other; the CLI fails for a stack without a state
            pulumi.log.debug(f"there is no state yet: {reason}")
            return cls(outputs=outputs, containers=[{}] if outputs else ())
        return cls(outputs=outputs, containers=_of_type(answer, CONTAINER_TYPE))

    async def managed_queues(self) -> set[tuple[str, str]] | None:
        """Return vhost and name of every queue in this stack's state: those that an engine can delete.

        None if the engine can't read the state: then it may delete any queue.
        """
        try:
            answer = await pulumi.runtime.invoke_async(_READ_RESOURCES, {"stackName": _own_stack()})
        except Exception as reason:  # noqa: BLE001, the SDK raises no other; the CLI fails for a stack without a state
            pulumi.log.debug(f"the state can't be read: {reason}")
            return None
        return {(queue["vhost"], queue["name"]) for queue in _of_type(answer, QUEUE.resource_type)}

    @property
    def never_succeeded(self) -> bool:
        return not self.outputs

    @property
    def has_older_layout(self) -> bool:
        """Return True if replacing a container now would take every queue along.

        The run that created the containers may have failed and left no output. Containers of an older version lack the
        security options that came together with the newer layout.
        """
        return any(NO_NEW_PRIVILEGES not in (entry.get("securityOpts") or ()) for entry in self.containers)


def _read_outputs() -> Mapping[str, Any]:
    """Read this stack's outputs, again after "EOF": a `file://` backend has no whole file while the CLI writes one."""
    for pause in _PAUSES_S:
        try:
            return pulumi.runtime.invoke(_READ_OUTPUTS, {"name": _own_stack()}).value or {}
        except Exception as reason:
            if not str(reason).endswith("failed to load checkpoint: EOF"):
                raise
            time.sleep(pause)
    return pulumi.runtime.invoke(_READ_OUTPUTS, {"name": _own_stack()}).value or {}


def _of_type(answer: Mapping[str, Any] | None, type_: str) -> list[Mapping[str, Any]]:
    """Return the outputs of the resources of a type."""
    found = ((answer or {}).get("outputs") or {}).values()
    return [entry["outputs"] for entry in found if entry["type"] == type_]


def _own_stack() -> str:
    return f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
