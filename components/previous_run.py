"""PreviousRun: what this stack's last successful run has left in its outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pulumi

from components.containers import NO_NEW_PRIVILEGES
from kryonix.topology.objects import QUEUE

__all__ = ["LAYOUT", "PreviousRun"]

_READ_RESOURCES: Final = "pulumi:pulumi:readStackResourceOutputs"

LAYOUT: Final = 2
"""How a platform's resources depend on each other in the state; the output `layout` says it.

1, which no output says: what tenants have depends on the containers' ids, so an engine that replaces a container
replaces every vhost and queue. 2: it depends on plain values, and waits for the containers by `depends_on`.
"""


@dataclass(frozen=True, kw_only=True)
class PreviousRun:
    """The outputs of this stack as they were when this run began; empty before the first run has succeeded."""

    outputs: Mapping[str, Any] = field(repr=False)
    containers: Sequence[Mapping[str, Any]] = ()
    """The outputs of the containers in the state; read only where no output says the layout."""

    @classmethod
    def load(cls) -> PreviousRun:
        """Ask the engine. It is a function, not a StackReference, because it has to be known before any resource."""
        answer = pulumi.runtime.invoke("pulumi:pulumi:readStackOutputs", {"name": _own_stack()}).value or {}
        outputs = answer.get("outputs") or {}
        if int(outputs.get("layout") or 1) >= LAYOUT:
            return cls(outputs=outputs)
        try:
            answer = pulumi.runtime.invoke(_READ_RESOURCES, {"stackName": _own_stack()}).value
        except Exception as reason:  # noqa: BLE001, the SDK raises no other; the CLI fails for a stack without a state
            pulumi.log.debug(f"there is no state yet: {reason}")
            return cls(outputs=outputs, containers=[{}] if outputs else ())
        found = ((answer or {}).get("outputs") or {}).values()
        containers = [entry["outputs"] for entry in found if entry["type"] == "docker:index/container:Container"]
        return cls(outputs=outputs, containers=containers)

    async def managed_queues(self) -> set[tuple[str, str]] | None:
        """Return vhost and name of every queue in this stack's state, which is what an engine can delete.

        None where the engine can't tell: then any queue may be one.
        """
        try:
            answer = await pulumi.runtime.invoke_async(_READ_RESOURCES, {"stackName": _own_stack()}) or {}
        except Exception as reason:  # noqa: BLE001, the SDK raises no other; the CLI fails for a stack without a state
            pulumi.log.debug(f"the state can't be read: {reason}")
            return None
        found = (answer.get("outputs") or {}).values()
        queues = [entry["outputs"] for entry in found if entry["type"] == QUEUE.resource_type]
        return {(queue["vhost"], queue["name"]) for queue in queues}

    @property
    def never_succeeded(self) -> bool:
        return not self.outputs

    @property
    def has_older_layout(self) -> bool:
        """Whether a container that is replaced now would take every queue along.

        The run that made the containers may never have succeeded, so that no output tells. An older version's
        containers are known by what they lack: the newer layout came together with their hardening.
        """
        return any(NO_NEW_PRIVILEGES not in (entry.get("securityOpts") or ()) for entry in self.containers)


def _own_stack() -> str:
    return f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
