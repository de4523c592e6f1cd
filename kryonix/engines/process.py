"""The local engine behind the engines' interface, with processes for the stacks that have a config of their own."""

from __future__ import annotations

import weakref
from collections.abc import Collection
from copy import deepcopy
from functools import partialmethod
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import Any, Final

from kryonix.engines.deployments import Change, Deployment
from kryonix.engines.engine import StackSpec, ignore, trusted
from kryonix.engines.errors import Refused
from kryonix.engines.events import OnEvent, Summary
from kryonix.engines.local import LocalStack
from kryonix.engines.local.errors import StateCorrupt
from kryonix.engines.local.store import Store, state_root
from kryonix.engines.program_files import program_digest
from kryonix.engines.runner import Request, Runner, RunnerGone
from kryonix.engines.workspace import check_name, config_file, run_folder

_OUTPUTS: Final = 64
"""Maximum number of stacks' outputs that are kept in memory."""


class LocalEngine:
    """The local engine. The state is in the project's folder, or in KRYONIX_STATE_DIR.

    A stack with the project's own config file runs in this process, one with a config of its own in another process.
    With `keep`, such a process is used again for the next run; else it ends with its run.
    """

    def __init__(self, project: Path, *, concurrency: int = 4, keep: bool = False) -> None:
        self._project = project.absolute()
        self._slots = BoundedSemaphore(concurrency)
        self._keep = keep
        self._idle: list[tuple[Runner, str]] = []
        self._lock = Lock()
        self._outputs: dict[tuple[str, bool], tuple[str, dict[str, Any]]] = {}
        weakref.finalize(self, _end, self._idle)

    def outputs(self, stack: StackSpec, *, show_secrets: bool = True) -> dict[str, Any]:
        """Return them as read before, if the state has not been written since: operations on tenants read often."""
        mark = Store(state_root(self._project), stack.name).mark
        asked = (stack.name, show_secrets)
        known = self._outputs.get(asked)
        if known is None or not mark or known[0] != mark:
            known = mark, self._open(stack).outputs(show_secrets=show_secrets)
            with self._lock:
                while len(self._outputs) >= _OUTPUTS:
                    self._outputs.pop(next(iter(self._outputs)))
                self._outputs[asked] = known
        return trusted(deepcopy(known[1]))

    def export(self, stack: StackSpec, *, show_secrets: bool = False) -> dict[str, Any]:
        return self._open(stack).export(show_secrets)

    def rewrite(self, stack: StackSpec, change: Change) -> None:
        self._open(stack).rewrite(change)

    def restore(self, stack: StackSpec, deployment: Deployment) -> None:
        self._open(stack).restore(deployment)

    def stacks(self) -> list[str]:
        root = state_root(self._project)
        names = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
        return [name for name in names if self._has_resources(name)]

    def marks(self, names: Collection[str]) -> dict[str, str]:
        root = state_root(self._project)
        return {name: mark for name in names if (mark := Store(root, name).mark)}

    def program_digest(self) -> str:
        return program_digest(self._project)

    def _has_resources(self, name: str) -> bool:
        try:
            return LocalStack(self._project, name).has_resources
        except Refused:  # not a stack's folder
            return False
        except StateCorrupt:  # what uses this stack reports it; the others are as usable as before
            return True

    def _open(self, stack: StackSpec, on_event: OnEvent = ignore) -> LocalStack:
        return LocalStack(self._project, stack.name, config_file=stack.config_file, on_event=on_event)

    def _run(self, operation: str, stack: StackSpec, on_event: OnEvent = ignore) -> Summary:
        if stack.config is None:
            with self._slots:
                summary: Summary = getattr(self._open(stack, on_event), operation)()
                return summary
        check_name(stack.name)
        with self._slots, run_folder() as folder:
            request = {
                "operation": operation,
                "project": self._project,
                "stack": stack.name,
                "config_file": config_file(folder, stack),
                "last": not self._keep,
                "events": on_event is not ignore,
            }
            return self._run_elsewhere(request, on_event)

    def _run_elsewhere(self, request: Request, on_event: OnEvent) -> Summary:
        """Run a stack in a process. One that has failed, or whose program is not the current one, is not used again."""
        program = self.program_digest() if self._keep else ""
        with self._lock:
            kept = self._idle.pop() if self._idle else None
        if kept is not None:
            runner, its_program = kept
            try:
                if its_program == program:
                    return self._used(runner, program, request, on_event)
                runner.close()
            except RunnerGone:  # it has ended since its last run
                pass
        return self._used(Runner(self._project), program, request, on_event)

    def _used(self, runner: Runner, program: str, request: Request, on_event: OnEvent) -> Summary:
        try:
            summary = runner.run(request, on_event)
        except BaseException:
            runner.close()
            raise
        if self._keep:
            with self._lock:
                self._idle.append((runner, program))
        else:
            runner.close()
        return summary

    def close(self) -> None:
        """End the processes that are kept for further runs. They end with this process too."""
        with self._lock:
            _end(self._idle)

    preview = partialmethod(_run, "preview")
    up = partialmethod(_run, "up")
    refresh = partialmethod(_run, "refresh")
    destroy = partialmethod(_run, "destroy")


def _end(idle: list[tuple[Runner, str]]) -> None:
    for runner, _ in idle:
        runner.hang_up()  # all of them, so that they end side by side
    while idle:
        idle.pop()[0].close()
