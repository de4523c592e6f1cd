"""Stacks run by the Pulumi CLI, by way of the Automation API."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, Final

import pulumi.automation as auto
import yaml

from kryonix.engines.errors import EngineFailed
from kryonix.engines.events import OnEvent, Summary, count_changes
from kryonix.engines.pulumi_cli import EventLog, translated
from kryonix.engines.spec import StackSpec, ignore
from kryonix.engines.takeover import refuse_begun_locally
from kryonix.engines.workspace import workspace

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
                refuse_begun_locally(self._project, stack.name)
                return {}
        return {name: output.value for name, output in found.items()}

    def export(self, stack: StackSpec) -> dict[str, Any]:
        with self._slots, workspace(self._project, stack) as folder, translated([]):
            try:
                found = self._workspace(folder).export_stack(stack.name)
            except auto.StackNotFoundError:
                refuse_begun_locally(self._project, stack.name)
                return {}
        return {"version": found.version, "deployment": found.deployment}

    def stacks(self) -> list[str]:
        with self._slots, translated([]):
            found = self._workspace(self._project).list_stacks()
        return sorted(each.name.rsplit("/", 1)[-1] for each in found if each.resource_count != 0)

    def _workspace(self, folder: Path) -> auto.LocalWorkspace:
        return auto.LocalWorkspace(
            work_dir=str(folder), env_vars=dict(_ENVIRONMENT), secrets_provider=self._secrets_provider
        )

    def _open(self, folder: Path, name: str) -> auto.Stack:
        """The stack, made where there is none, with its secrets kept as they were.

        The CLI reads from the config file which provider keeps a stack's secrets, and a workspace has a new one each
        time: without this, a stack whose secrets are in a vault would turn to the passphrase at its second run.
        """
        workspace = self._workspace(folder)
        try:
            found = auto.Stack.select(name, workspace)
        except auto.StackNotFoundError:
            refuse_begun_locally(self._project, name)
            return auto.Stack.create_or_select(name, workspace)  # select, where another run was faster
        file = folder / f"Pulumi.{name}.yaml"
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        kept = _secrets_settings(found.export_stack().deployment or {}, self._secrets_provider)
        file.write_text(yaml.safe_dump({**document, **kept}, allow_unicode=True), encoding="utf-8")
        return found

    def _run(self, stack: StackSpec, on_event: OnEvent, operation: Callable[..., Any]) -> Summary:
        started, log = time.monotonic(), EventLog(on_event)
        with self._slots, workspace(self._project, stack) as folder:
            with translated(log.errors):
                found = self._open(folder, stack.name)
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


def _secrets_settings(deployment: Mapping[str, Any], chosen: str | None) -> dict[str, str]:
    """What the config file has to say so that a stack's secrets stay where they are."""
    provider = deployment.get("secrets_providers") or {}
    state = provider.get("state") or {}
    if provider.get("type") == "cloud":
        return {"secretsprovider": state["url"], "encryptedkey": state["encryptedkey"]}
    if provider.get("type") == "passphrase":
        return {"encryptionsalt": state["salt"]}
    return {"secretsprovider": chosen} if chosen else {}


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
