"""Stacks run by the Pulumi CLI, by way of the Automation API."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, Final

import pulumi.automation as auto

from kryonix.lifecycle.automation import EventLog, translated
from kryonix.lifecycle.deployer import StackSpec, ignore
from kryonix.lifecycle.errors import EngineFailed
from kryonix.lifecycle.workspace import workspace
from kryonix.local.events import OnEvent, Summary, count_changes

__all__ = ["AutomationDeployer"]

_ENVIRONMENT: Final = {"PULUMI_EXPERIMENTAL": "true", "PULUMI_SKIP_CHECKPOINTS": "true"}
"""State is written at the end only. What a run that was killed has made, the next one takes for its own."""

_LOCK: Final = re.compile(r"created by (?P<user>\S+)@(?P<host>\S+) \(pid (?P<pid>\d+)\)")


class AutomationDeployer:
    """A project's stacks in whatever backend and with whatever secrets provider the environment names.

    PULUMI_BACKEND_URL is passed through: file, object store, PostgreSQL. KRYONIX_SECRETS_PROVIDER names the secrets
    provider of stacks that are new, as `pulumi stack init --secrets-provider` takes it; a passphrase where it is unset.
    """

    def __init__(self, project: Path, *, concurrency: int = 4) -> None:
        self._project = project.absolute()
        self._slots = BoundedSemaphore(concurrency)
        self._secrets_provider = os.environ.get("KRYONIX_SECRETS_PROVIDER") or None

    def preview(self, stack: StackSpec, on_event: OnEvent = ignore) -> Summary:
        return self._run(stack, on_event, lambda found, **run: found.preview(**run))

    def up(self, stack: StackSpec, on_event: OnEvent = ignore) -> Summary:
        return self._run(stack, on_event, lambda found, **run: found.up(**run, show_secrets=False))

    def refresh(self, stack: StackSpec, on_event: OnEvent = ignore) -> Summary:
        return self._run(stack, on_event, lambda found, **run: found.refresh(**run, show_secrets=False))

    def destroy(self, stack: StackSpec, on_event: OnEvent = ignore) -> Summary:
        return self._run(stack, on_event, lambda found, **run: found.destroy(**run, show_secrets=False))

    def outputs(self, stack: StackSpec) -> dict[str, Any]:
        with self._slots, workspace(self._project, stack) as folder, translated([]):
            try:
                found = self._workspace(folder).stack_outputs(stack.name)
            except auto.StackNotFoundError:
                return {}
        return {name: output.value for name, output in found.items()}

    def stacks(self) -> list[str]:
        with self._slots, translated([]):
            found = self._workspace(self._project).list_stacks()
        return sorted(each.name.rsplit("/", 1)[-1] for each in found if each.resource_count != 0)

    def _workspace(self, folder: Path) -> auto.LocalWorkspace:
        return auto.LocalWorkspace(
            work_dir=str(folder), env_vars=dict(_ENVIRONMENT), secrets_provider=self._secrets_provider
        )

    def _run(self, stack: StackSpec, on_event: OnEvent, operation: Callable[..., Any]) -> Summary:
        started, log = time.monotonic(), EventLog(on_event)
        with self._slots, workspace(self._project, stack) as folder:
            with translated(log.errors):
                found = auto.Stack.create_or_select(stack.name, self._workspace(folder))
            try:
                with translated(log.errors):
                    operation(found, on_event=log.take, color="never")
            except EngineFailed as error:
                if not _left_behind(str(error)):
                    raise
                log.errors.clear()
                with translated(log.errors):
                    found.cancel()
                    operation(found, on_event=log.take, color="never")
        steps = tuple(log.steps)
        return Summary(changes=count_changes(steps), steps=steps, seconds=time.monotonic() - started)


def _left_behind(message: str) -> bool:
    """Whether every lock in the CLI's complaint is of a process of this machine that has ended."""
    locks = list(_LOCK.finditer(message))
    return bool(locks) and all(lock["host"] == socket.gethostname() and not _alive(int(lock["pid"])) for lock in locks)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
