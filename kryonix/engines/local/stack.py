"""A stack run by the local engine: preview, up, refresh, destroy, outputs, export."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from kryonix.engines.deployments import Change, Deployment, change_secrets
from kryonix.engines.events import OnEvent, Summary, count_changes
from kryonix.engines.local import values
from kryonix.engines.local.deletion import Deletion, Doomed, refuse_protected
from kryonix.engines.local.errors import InvalidProgramInput, ServiceUnavailable
from kryonix.engines.local.handlers import provider
from kryonix.engines.local.handlers.base import Properties, ProviderFactory
from kryonix.engines.local.ledger import Ledger
from kryonix.engines.local.project import Project, StackConfig, StackFile
from kryonix.engines.local.recovery import find_unwanted_aside, refresh_all
from kryonix.engines.local.resource import Resource
from kryonix.engines.local.run import Run, Target
from kryonix.engines.local.secrets import Vault
from kryonix.engines.local.stack_reference import StackReferences, outputs_of
from kryonix.engines.local.state import State
from kryonix.engines.local.store import Store, state_root


@dataclass(frozen=True, slots=True)
class _Session:
    """The open parts of one operation."""

    project: Project
    run: Run
    config: StackConfig
    start: float

    def summary(self, outputs: Properties | None = None) -> Summary:
        """Return the result of the run."""
        steps = tuple(self.run.steps)
        return Summary(count_changes(steps), steps, outputs or {}, seconds=monotonic() - self.start)


class LocalStack:
    """One stack of a project. Operations that change it hold its lock; each call opens and closes everything.

    `parallel` limits concurrent handler calls. `on_event` receives progress, one event at a time, from any thread.
    `providers` makes configured providers; default: those of `kryonix.engines.local.handlers`.
    """

    def __init__(
        self,
        project: Path,
        stack: str,
        *,
        config_file: Path | None = None,
        parallel: int = 16,
        on_event: OnEvent = lambda _: None,
        providers: ProviderFactory = provider,
    ) -> None:
        self._folder = project.absolute()
        self._stack = stack
        self._config_file = config_file
        self._parallel = parallel
        self._on_event = on_event
        self._providers = providers
        self._store = Store(state_root(self._folder), stack)

    def preview(self) -> Summary:
        """Run the program and return the changes of an `up`. Change nothing; needs no lock."""
        return self._apply(dry_run=True)

    def up(self) -> Summary:
        """Run the program, bring everything to what it wants, then delete what it no longer has."""
        return self._apply(dry_run=False)

    def refresh(self) -> Summary:
        """Read all resources back into the state. The next `up` repairs differences."""
        from kryonix.engines.local.program import in_project

        with self._session() as session, in_project(self._folder):
            refresh_all(session.run)
            return session.summary()

    def destroy(self) -> Summary:
        """Delete everything in the state, without running the program."""
        with self._session() as session:
            self._delete(session.run, _unwanted(session.run, frozenset()), lambda _: True)
            return session.summary()

    @property
    def has_resources(self) -> bool:
        """True if the state holds anything. Needs no passphrase."""
        return bool(self._store.load().resources)

    def outputs(self, show_secrets: bool = False) -> dict[str, Any]:
        """Return the outputs of the last successful `up`; secret ones as `[secret]` unless `show_secrets`."""
        state = self._store.load()
        return _shown(outputs_of(state, self._state_vault(state)), show_secrets)

    def export(self, show_secrets: bool = False) -> dict[str, Any]:
        """Return the deployment, as `pulumi stack export` prints it and `pulumi stack import` reads it."""
        state = self._store.load()
        return _with_plaintext(state, self._state_vault(state)) if show_secrets else state.document()

    def rewrite(self, change: Change) -> None:
        """Replace the deployment by `change` of it, with secrets in plain text. Touch no resource."""
        with self._store.lock():
            state = self._store.load()
            vault = self._state_vault(state)
            changed = State.of_document(
                _with_ciphertext(change(_with_plaintext(state, vault)), vault),
                where=f"the new state of {self._stack!r}",
            )
            changed.salt = vault.crypter.state
            self._store.save(changed)

    def _apply(self, dry_run: bool) -> Summary:
        # Imported here: they load the SDK's protocol, which other operations do without.
        from kryonix.engines.local.monitor import Monitor
        from kryonix.engines.local.program import run_program
        from kryonix.engines.local.registrar import Registrar

        with self._session(dry_run=dry_run) as session:
            run, config = session.run, session.config
            at_start = run.ledger.keys()
            references = StackReferences(
                run.target, self._store, lambda: [*run.ledger.all(), *run.ledger.possibly_created()]
            )
            references.warm(config.values.values())
            registrar = Registrar(run, config)
            monitor = Monitor(run, registrar, references)
            run_program(session.project, config, run, monitor)
            monitor.commit_outputs()
            doomed = _unwanted(run, registrar.seen)
            self._delete(run, doomed, lambda node: not node.delete or node.key in at_start)
            return session.summary(_shown(monitor.outputs, False))

    def _delete(self, run: Run, doomed: list[Doomed], counted: Callable[[Resource], bool]) -> None:
        from kryonix.engines.local.program import in_project

        sure = [node.resource for node in doomed if not node.unsure]
        for resource in filter(counted, sure):
            run.step(resource, "delete")
        refuse_protected(node.resource for node in doomed)
        if run.dry_run:
            for resource in sure:
                run.report(resource, "delete")
            return
        with in_project(self._folder):
            Deletion(run, doomed).execute()

    @contextmanager
    def _session(self, *, dry_run: bool = False) -> Iterator[_Session]:
        start, project = monotonic(), Project.load(self._folder)
        file = StackFile(project, self._stack, self._config_file)
        with nullcontext() if dry_run else self._store.lock():
            state, target = self._store.load(), Target(project.name, self._stack)
            expected = f"urn:pulumi:{target.stack}::{target.project}::"
            if foreign := [data["urn"] for data in state.resources.values() if not data["urn"].startswith(expected)]:
                raise InvalidProgramInput(
                    f"The state in {self._store.folder} is not that of stack {target.stack!r} of project "
                    f"{target.project!r}: it contains {foreign[0]}."
                )
            vault = self._state_vault(state, file)
            vault.warm()
            same_key = not file.salt or file.salt == vault.state
            config = file.config(lambda: vault if same_key else Vault(file.salt, where=str(file.path)))
            ledger = Ledger(state, vault, None if dry_run else self._store)
            options: dict[str, Any] = {"parallel": self._parallel, "dry_run": dry_run, "on_event": self._on_event}
            run = Run(target, ledger, self._providers, dict(config.values), **options)
            try:
                yield _Session(project, run, config, start)
            finally:
                run.close()
                try:
                    ledger.close()
                except OSError as error:
                    raise ServiceUnavailable(
                        f"The state in {self._store.folder} can't be written: {error}. The changes are in the journal "
                        "there, as far as it could be written. Make room, and run again."
                    ) from error

    def _state_vault(self, state: State, file: StackFile | None = None) -> Vault:
        if state.salt or file is None or not file.salt:
            return Vault(state.salt, where=f"the state of stack {self._stack!r}")
        return Vault(file.salt, where=str(file.path))


def _unwanted(run: Run, seen: frozenset[str]) -> list[Doomed]:
    """Return the resources to delete: unregistered and replaced ones."""
    find_unwanted_aside(run, seen)
    known = run.ledger.all()
    live = {(r.type, r.id, r.provider) for r in known if r.managed and not r.delete and not r.pending_replacement}
    again = [r.key for r in known if r.delete and (r.type, r.id, r.provider) in live]
    if again and not run.dry_run:  # replaced, but made again under the same id
        run.ledger.commit(drop=again)
    doomed = [Doomed(r) for r in run.ledger.all() if r.delete or r.urn not in seen]
    for key in run.ledger.interrupted_keys():
        type_, recorded = run.ledger.interrupted(key) or ("", None)
        if type_ == "creating" and recorded is not None and key not in seen:
            doomed.append(Doomed(recorded, unsure=True))
        elif run.ledger.get(key) is None and not run.dry_run:
            run.ledger.commit(end=[key])
    return doomed


def _shown(outputs: Properties, show_secrets: bool) -> dict[str, Any]:
    shown = values.plain(outputs) if show_secrets else values.redact(outputs)
    return {name: "[unknown]" if values.has_unknown(value) else value for name, value in shown.items()}


def _with_plaintext(state: State, vault: Vault) -> Deployment:
    def opened(urn: str, secret: dict[str, Any]) -> dict[str, Any]:
        text = vault.crypter.decrypt(secret["ciphertext"], urn)
        return {key: value for key, value in secret.items() if key != "ciphertext"} | {"plaintext": text}

    return _each_secret(state.document(), opened)


def _with_ciphertext(document: Deployment, vault: Vault) -> Deployment:
    def sealed(urn: str, secret: dict[str, Any]) -> dict[str, Any]:
        text = vault.crypter.encrypt(secret["plaintext"], urn)
        return {key: value for key, value in secret.items() if key != "plaintext"} | {"ciphertext": text}

    return _each_secret(document, sealed)


def _each_secret(document: Deployment, change: Callable[[str, dict[str, Any]], dict[str, Any]]) -> Deployment:
    """Return the deployment with each secret changed; `change` also gets the URN of its resource."""

    def changed(data: dict[str, Any]) -> Any:
        return change_secrets(data, lambda secret: change(data["urn"], secret))

    deployment = document["deployment"]
    resources = [changed(data) for data in deployment.get("resources") or ()]
    pending = [{**each, "resource": changed(each["resource"])} for each in deployment.get("pending_operations") or ()]
    return {**document, "deployment": {**deployment, "resources": resources, "pending_operations": pending}}
