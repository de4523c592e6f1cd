"""An operation on a tenant, in a process that kills itself at a moment of its own.

Arguments: the project; the platform's stack; the moment; the operation; the tenant; what else the operation is given,
as JSON. A moment is RUN.EVENT: which run of a stack, from 1, and which event in it, or `end` for once it has ended.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from kryonix.engines.engine import StackSpec
from kryonix.engines.events import Event, OnEvent, Summary
from kryonix.engines.process import LocalEngine
from kryonix.tenants.lifecycle import TenantLifecycle
from kryonix.topology.catalog import default_catalog
from tests.support.lifecycle_env import cells_of


@dataclass
class Mortal:
    """A engine whose process dies at one moment."""

    engine: LocalEngine
    run: int
    moment: str
    runs: int = 0

    def up(self, stack: StackSpec, on_event: OnEvent) -> Summary:
        return self._watched(self.engine.up, stack)

    def destroy(self, stack: StackSpec, on_event: OnEvent) -> Summary:
        return self._watched(self.engine.destroy, stack)

    def preview(self, stack: StackSpec) -> Summary:
        return self.engine.preview(stack)

    def outputs(self, stack: StackSpec) -> dict[str, Any]:
        return self.engine.outputs(stack)

    def marks(self, names: Collection[str]) -> dict[str, str]:
        return self.engine.marks(names)

    def program_digest(self) -> str:
        return self.engine.program_digest()

    def _watched(self, operation: Any, stack: StackSpec) -> Summary:
        self.runs += 1
        seen = 0

        def listen(event: Event) -> None:
            nonlocal seen
            seen += 1
            if self.runs == self.run and str(seen) == self.moment:
                die()

        summary: Summary = operation(stack, listen)
        if self.runs == self.run and self.moment == "end":
            die()
        return summary


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    project, stack, moment, operation, tenant, given = sys.argv[1:]
    engine = LocalEngine(Path(project))
    dsn = str(engine.outputs(StackSpec(name=stack))["registry_dsn"])
    run, _, event = moment.partition(".")
    mortal: Any = Mortal(engine, int(run), event)
    lifecycle = TenantLifecycle(dsn, mortal, cells_of(stack), default_catalog(), overlap=timedelta(hours=1))
    getattr(lifecycle, operation)(tenant, **json.loads(given))


if __name__ == "__main__":
    main()
