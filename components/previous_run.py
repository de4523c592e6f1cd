"""PreviousRun: what this stack's last successful run has left in its outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pulumi

__all__ = ["LAYOUT", "PreviousRun"]

LAYOUT: Final = 2
"""How a platform's resources depend on each other in the state; the output `layout` says it.

1, which no output says: what tenants have depends on the containers' ids, so an engine that replaces a container
replaces every vhost and queue. 2: it depends on plain values, and waits for the containers by `depends_on`.
"""


@dataclass(frozen=True, kw_only=True)
class PreviousRun:
    """The outputs of this stack as they were when this run began; empty before the first run has succeeded."""

    outputs: Mapping[str, Any] = field(repr=False)

    @classmethod
    def load(cls) -> PreviousRun:
        """Ask the engine. It is a function, not a StackReference, because it has to be known before any resource."""
        name = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
        answer = pulumi.runtime.invoke("pulumi:pulumi:readStackOutputs", {"name": name}).value or {}
        return cls(outputs=answer.get("outputs") or {})

    @property
    def never_succeeded(self) -> bool:
        return not self.outputs

    @property
    def has_older_layout(self) -> bool:
        """Whether a container that is replaced now would take every queue along."""
        return bool(self.outputs) and int(self.outputs.get("layout") or 1) < LAYOUT
