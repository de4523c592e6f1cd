"""The Pulumi CLI behind the engines' interface, through the Automation API."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property, partial, partialmethod
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, Final

import pulumi.automation as auto
import yaml

from kryonix.engines.deployments import Change, Deployment
from kryonix.engines.engine import StackSpec, ignore, trusted
from kryonix.engines.errors import EngineFailed
from kryonix.engines.events import OnEvent, Summary, count_changes
from kryonix.engines.program_files import program_digest
from kryonix.engines.pulumi_events import EventLog, translated
from kryonix.engines.workspace import run_folder, workspace

_ENVIRONMENT: Final = {"PULUMI_EXPERIMENTAL": "true", "PULUMI_SKIP_CHECKPOINTS": "true"}
"""Write the state at the end only. After a killed run, the next one adopts what it made."""

_LOCK: Final = re.compile(r"created by (?P<user>\S+)@(?P<host>\S+) \(pid (?P<pid>\d+)\)")


class PulumiEngine:
    """The `pulumi` command, with the backend and the secrets provider that the environment names.

    PULUMI_BACKEND_URL is passed through: file, object store, PostgreSQL. KRYONIX_SECRETS_PROVIDER names the secrets
    provider of new stacks, as `pulumi stack init --secrets-provider` takes it; default: a passphrase.
    `before_creation` is called with the project and the name of a stack that the CLI does not know.
    """

    def __init__(
        self,
        project: Path,
        *,
        concurrency: int = 4,
        before_creation: Callable[[Path, str], None] = lambda project, name: None,
    ) -> None:
        self._project = project.absolute()
        self._slots = BoundedSemaphore(concurrency)
        self._before_creation = before_creation
        self._secrets_provider = os.environ.get("KRYONIX_SECRETS_PROVIDER") or None

    def outputs(self, stack: StackSpec, *, show_secrets: bool = True) -> dict[str, Any]:
        # Not the SDK's `stack_outputs`: it runs the CLI twice, with and without secrets, to tell which are secret.
        return trusted(self._read(stack, ["output", "--json"], show_secrets=show_secrets))

    def export(self, stack: StackSpec, *, show_secrets: bool = False) -> dict[str, Any]:
        return self._read(stack, ["export"], show_secrets=show_secrets)

    def rewrite(self, stack: StackSpec, change: Change) -> None:
        with self._slots, self._folder(stack) as folder, run_folder() as private:
            with translated([]):
                found = self._open(folder, stack.name)
                before = found.export_stack()
            changed = change({"version": before.version, "deployment": before.deployment or {}})
            changed["deployment"]["manifest"] = _written_now(changed["deployment"])
            own = (before.deployment or {}).get("secrets_providers")
            if own := own or _secrets_providers(folder / f"Pulumi.{stack.name}.yaml"):
                changed["deployment"]["secrets_providers"] = own
            self._import(found, folder, private, changed)

    def restore(self, stack: StackSpec, deployment: Deployment) -> None:
        with self._slots, self._folder(stack) as folder, run_folder() as private:
            with translated([]):
                found = self._open(folder, stack.name)
            self._import(found, folder, private, deployment)

    def stacks(self) -> list[str]:
        with self._slots, translated([]):
            found = self._workspace(self._project).list_stacks()
        return sorted(each.name.rsplit("/", 1)[-1] for each in found if each.resource_count != 0)

    def marks(self, names: Collection[str]) -> dict[str, str]:
        """Return when each state was written, and its number of resources, from one list for several stacks."""
        if len(names) == 1:
            (only,) = names
            state = self.export(StackSpec(name=only)).get("deployment") or {}
            written = (state.get("manifest") or {}).get("time")
            return {only: _mark(datetime.fromisoformat(written), len(state.get("resources") or ()))} if written else {}
        with self._slots, translated([]):
            found = self._workspace(self._project).list_stacks()
        return {
            name: _mark(each.last_update.replace(tzinfo=UTC), each.resource_count or 0)
            for each in found
            if (name := each.name.rsplit("/", 1)[-1]) in names and each.last_update and not each.update_in_progress
        }

    def program_digest(self) -> str:
        return program_digest(self._project)

    @contextmanager
    def _folder(self, stack: StackSpec) -> Iterator[Path]:
        if stack.config is None:
            yield self._project
        else:
            with workspace(self._project, stack) as folder:
                yield folder

    def _read(self, stack: StackSpec, arguments: Sequence[str], *, show_secrets: bool) -> dict[str, Any]:
        """Return the JSON of `pulumi stack ARGUMENTS`, empty if the backend does not know the stack."""
        with self._slots, self._folder(stack) as folder, translated([]):
            try:
                return _stack_json(self._workspace(folder), stack.name, arguments, show_secrets=show_secrets)
            except auto.StackNotFoundError:
                self._before_creation(self._project, stack.name)
                return {}

    @cached_property
    def _command(self) -> auto.PulumiCommand:
        """The CLI. Each of the SDK's workspaces would run it once more, only to ask for its version."""
        return auto.PulumiCommand()

    def _workspace(self, folder: Path) -> auto.LocalWorkspace:
        environment = {} if folder == self._project else _ENVIRONMENT
        return auto.LocalWorkspace(
            work_dir=str(folder),
            env_vars=dict(environment),
            secrets_provider=self._secrets_provider,
            pulumi_command=self._command,
        )

    def _open(self, folder: Path, name: str) -> auto.Stack:
        """Return the stack, created if the backend does not know it, with its secrets provider unchanged.

        The CLI reads the secrets provider from the config file, which is new in each workspace: without this, a stack
        with its secrets in a vault would use the passphrase from its second run on.
        """
        try:
            found = auto.Stack.select(name, self._workspace(folder))
        except auto.StackNotFoundError:
            self._before_creation(self._project, name)
            return auto.Stack.create_or_select(name, self._workspace(folder))  # select, if another run was faster
        if folder != self._project:
            file = folder / f"Pulumi.{name}.yaml"
            document = yaml.safe_load(file.read_text(encoding="utf-8"))
            state = _stack_json(found.workspace, name, ["export"], show_secrets=False).get("deployment") or {}
            kept = _secrets_settings(state, self._secrets_provider)
            file.write_text(yaml.safe_dump({**document, **kept}, allow_unicode=True), encoding="utf-8")
        return found

    def _run(self, operation: Callable[..., Any], stack: StackSpec, on_event: OnEvent = ignore) -> Summary:
        started, log = time.monotonic(), EventLog(on_event)
        config = {"config_file": str(stack.config_file)} if stack.config_file else {}
        with self._slots, self._folder(stack) as folder:
            with translated(log.errors):
                found = self._open(folder, stack.name)
            run = partial(operation, found, on_event=log.add, color="never", **config)
            self._unlocking(found, folder, log.errors, run)
        steps = tuple(log.steps)
        return Summary(changes=count_changes(steps), steps=steps, seconds=time.monotonic() - started)

    preview = partialmethod(_run, auto.Stack.preview)
    up = partialmethod(_run, partial(auto.Stack.up, show_secrets=False))
    refresh = partialmethod(_run, partial(auto.Stack.refresh, show_secrets=False))
    destroy = partialmethod(_run, partial(auto.Stack.destroy, show_secrets=False))

    def _import(self, found: auto.Stack, folder: Path, private: Path, deployment: Deployment) -> None:
        # Not the SDK's `import_stack`: a killed one leaves its file, which may have secrets in plain text.
        file = private / "deployment.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps(deployment), encoding="utf-8")
        command, environment = found.workspace.pulumi_command, found.workspace.env_vars
        arguments = ("stack", "import", "--file", str(file), "--stack", found.name)
        self._unlocking(found, folder, [], lambda: command.run([*arguments], str(folder), environment))

    def _unlocking(self, found: auto.Stack, folder: Path, errors: list[str], run: Callable[[], Any]) -> None:
        """Run it, and again if a killed run on this machine has left its lock. A project's own stack stays locked."""
        try:
            with translated(errors):
                run()
        except EngineFailed as error:
            if folder == self._project or not _left_behind(str(error)):
                raise
            errors.clear()
            with translated(errors):
                found.cancel()
                run()


def _stack_json(found: auto.Workspace, name: str, arguments: Sequence[str], *, show_secrets: bool) -> dict[str, Any]:
    """Run `pulumi stack ARGUMENTS` and return its JSON. The SDK's `export_stack` would always show secrets."""
    command = ["stack", *arguments, "--stack", name, *(["--show-secrets"] if show_secrets else [])]
    document: dict[str, Any] = json.loads(found.pulumi_command.run(command, found.work_dir, found.env_vars).stdout)
    return document


def _written_now(deployment: Deployment) -> Deployment:
    """Return the manifest of a deployment that is written now: the CLI keeps the time of one that it imports."""
    return {**(deployment.get("manifest") or {}), "time": datetime.now(UTC).isoformat()}


def _mark(written: datetime, resources: int) -> str:
    """Return the mark of a state. The list of stacks has milliseconds, cut off, and an export nanoseconds."""
    moment = written.astimezone(UTC).isoformat(timespec="milliseconds")
    return f"pulumi {moment} {resources}"


def _secrets_settings(deployment: Mapping[str, Any], chosen: str | None) -> dict[str, str]:
    """Return the entries of the config file that keep a stack's secrets provider."""
    provider = deployment.get("secrets_providers") or {}
    state = provider.get("state") or {}
    if provider.get("type") == "cloud":
        return {"secretsprovider": state["url"], "encryptedkey": state["encryptedkey"]}
    if provider.get("type") == "passphrase":
        return {"encryptionsalt": state["salt"]}
    return {"secretsprovider": chosen} if chosen else {}


def _secrets_providers(file: Path) -> dict[str, Any] | None:
    """Return the deployment's entry for the secrets provider in a stack's config file; None if the backend keeps it."""
    settings = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}) if file.is_file() else {}
    if "encryptedkey" in settings:
        state = {"url": settings["secretsprovider"], "encryptedkey": settings["encryptedkey"]}
        return {"type": "cloud", "state": state}
    if "encryptionsalt" in settings:
        return {"type": "passphrase", "state": {"salt": settings["encryptionsalt"]}}
    return None


def _left_behind(message: str) -> bool:
    """Return True if every lock in the CLI's message belongs to a process of this machine that has ended."""
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
