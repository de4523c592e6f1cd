"""A stack run by the local engine: preview, up, refresh, destroy, outputs, export, import."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from kryonix.engines.events import Event, OnEvent, Summary, count_changes
from kryonix.engines.local import values
from kryonix.engines.local.deletion import Deletion, Doomed, refuse_protected
from kryonix.engines.local.errors import InvalidProgramInput, ServiceUnavailable
from kryonix.engines.local.handlers.base import Properties
from kryonix.engines.local.ledger import Ledger
from kryonix.engines.local.lock import hold
from kryonix.engines.local.project import Project
from kryonix.engines.local.providers import ProviderFactory, Providers
from kryonix.engines.local.recovery import find_unwanted_aside
from kryonix.engines.local.refresh import refresh_all
from kryonix.engines.local.resource import Resource
from kryonix.engines.local.run import Run, Target
from kryonix.engines.local.secrets import Vault, read_passphrase
from kryonix.engines.local.stack_config import StackConfig, StackFile
from kryonix.engines.local.stack_reference import StackReferences, outputs_of
from kryonix.engines.local.state import State
from kryonix.engines.local.store import Store, state_root

__all__ = ["LocalStack"]


def _silent(event: Event) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class _Session:
    """What one operation works with."""

    project: Project
    file: StackFile
    store: Store
    vault: Vault
    run: Run

    def config(self) -> StackConfig:
        config = self.file.config(lambda: _config_vault(self.file, self.vault))
        self.run.providers.configure(dict(config.values))
        return config


class LocalStack:
    """One stack of a project. Operations that change it hold its lock; each call opens and closes everything anew.

    `parallel` bounds the handler calls under way at once. `on_event` is told of progress, one event at a time, from
    any thread. `providers` makes configured providers; left out, those of `kryonix.engines.local.handlers`.
    """

    def __init__(
        self,
        project: Path,
        stack: str,
        *,
        config_file: Path | None = None,
        parallel: int = 16,
        on_event: OnEvent = _silent,
        providers: ProviderFactory | None = None,
    ) -> None:
        if parallel < 1:
            raise InvalidProgramInput(f"parallel is {parallel}; it has to be 1 or more.")
        self._folder = project.absolute()
        self._stack = stack
        self._config_file = config_file
        self._parallel = parallel
        self._on_event = on_event
        self._providers = providers
        self._store = Store(state_root(self._folder), stack)

    def preview(self) -> Summary:
        """What `up` would do. Runs the program; changes nothing, and needs no lock."""
        return self._timed(lambda: self._apply(dry_run=True))

    def up(self) -> Summary:
        """Run the program, bring everything to what it wants, then delete what it no longer has."""
        return self._timed(lambda: self._apply(dry_run=False))

    def refresh(self) -> Summary:
        """Read back what is really there: what is gone leaves the state, what differs is noted for the next `up`."""
        return self._timed(self._refresh)

    def destroy(self, *, preview: bool = False) -> Summary:
        """Delete everything in the state, without running the program; with `preview`, only say what."""
        return self._timed(lambda: self._destroy(preview))

    @property
    def has_resources(self) -> bool:
        """Whether its state holds anything. Needs no passphrase."""
        return bool(self._store.load().resources)

    def outputs(self, show_secrets: bool = False) -> dict[str, Any]:
        """The stack's outputs as of the last successful `up`; secret ones read `[secret]` unless asked for."""
        state = self._store.load()
        outputs = outputs_of(state, self._state_vault(state))
        return _shown(outputs, show_secrets)

    def export(self, show_secrets: bool = False) -> dict[str, Any]:
        """The deployment, as `pulumi stack export` prints it and `pulumi stack import` takes it."""
        state = self._store.load()
        document = state.document()
        if show_secrets:
            vault = self._state_vault(state)
            for data in document["deployment"].get("resources", []):
                data.update(values.reveal({k: data[k] for k in ("inputs", "outputs") if k in data}, vault.open_text))
        return document

    def import_(self, deployment: Mapping[str, Any]) -> None:
        """Take over a deployment, as `export` or `pulumi stack export` gives it, in place of the stack's state."""
        project = Project.load(self._folder)
        incoming = State.of_document(deployment, where="The deployment")
        _check_owner(incoming, Target(project.name, self._stack), "The deployment")
        vault = Vault(read_passphrase, incoming.salt or None, where="the deployment")
        self._store.prepare()
        with hold(self._store.folder, self._stack):
            self._store.load()
            for key, data in incoming.resources.items():
                incoming.resources[key] = values.conceal(data, vault.crypter.encrypt)
                Resource.decode(incoming.resources[key], vault)  # the passphrase has to fit every secret in it
            incoming.salt = vault.crypter.state
            self._store.save(incoming)

    # --- the operations

    def _apply(self, dry_run: bool) -> Summary:
        from kryonix.engines.local.deployer import Deployer
        from kryonix.engines.local.monitor import Monitor
        from kryonix.engines.local.program import run_program

        with self._session(dry_run=dry_run) as session:
            run, config = session.run, session.config()
            at_start = run.ledger.keys()
            references = StackReferences(run.target, session.store, lambda: [*run.ledger.all(), *run.ledger.begun()])
            references.warm(config.values.values())
            deployer = Deployer(run, config)
            monitor = Monitor(run, deployer, references)
            run_program(session.project, config, run, monitor)
            monitor.commit_outputs()
            doomed = _unwanted(run, deployer.seen)
            for node in doomed:
                if not node.unsure and not (node.resource.delete and node.resource.key not in at_start):
                    run.step(node.resource, "delete")
            self._delete(session, doomed)
            return _summary(run, _shown(monitor.outputs, False))

    def _refresh(self) -> Summary:
        from kryonix.engines.local.program import in_project

        with self._session() as session, in_project(session.project.folder):
            session.config()
            refresh_all(session.run)
            return _summary(session.run, {})

    def _destroy(self, dry_run: bool) -> Summary:
        with self._session(dry_run=dry_run) as session:
            session.config()
            doomed = _unwanted(session.run, frozenset())
            for node in doomed:
                if not node.unsure:
                    session.run.step(node.resource, "delete")
            self._delete(session, doomed)
            return _summary(session.run, {})

    def _delete(self, session: _Session, doomed: list[Doomed]) -> None:
        from kryonix.engines.local.program import in_project

        run = session.run
        refuse_protected(node.resource for node in doomed)
        if run.dry_run:
            for node in doomed:
                if not node.unsure:
                    run.tell(node.resource, "delete")
            return
        with in_project(session.project.folder):
            Deletion(run, doomed).execute()

    # --- opening and closing

    @contextmanager
    def _session(self, *, dry_run: bool = False) -> Iterator[_Session]:
        project = Project.load(self._folder)
        file = StackFile(project, self._stack, self._config_file)
        if not dry_run:
            self._store.prepare()
        with nullcontext() if dry_run else hold(self._store.folder, self._stack):
            state, target = self._store.load(), Target(project.name, self._stack)
            _check_owner(state, target, f"The state in {self._store.folder}")
            vault = self._state_vault(state, file)
            vault.warm()
            ledger = Ledger(state, vault, None if dry_run else self._store)
            providers = Providers(self._providers or _real_providers, ledger.get)
            run = Run(target, ledger, providers, parallel=self._parallel, dry_run=dry_run, on_event=self._on_event)
            try:
                yield _Session(project, file, self._store, vault, run)
            finally:
                providers.close()
                _close(ledger, self._store)

    def _state_vault(self, state: State, file: StackFile | None = None) -> Vault:
        if state.salt or file is None or not file.salt:
            return Vault(read_passphrase, state.salt or None, where=f"the state of stack {self._stack!r}")
        return Vault(read_passphrase, file.salt, where=str(file.path))

    def _timed(self, operation: Callable[[], Summary]) -> Summary:
        start = monotonic()
        summary = operation()
        return Summary(summary.changes, summary.steps, summary.outputs, monotonic() - start)


def _real_providers(package: str, config: Properties) -> Any:
    from kryonix.engines.local.handlers import provider

    return provider(package, config)


def _close(ledger: Ledger, store: Store) -> None:
    try:
        ledger.close()
    except OSError as error:
        ledger.abandon()
        raise ServiceUnavailable(
            f"The state in {store.folder} can't be written: {error}. What was done is in the journal there, as far as "
            "it could be written; make room and run again."
        ) from error


def _config_vault(file: StackFile, of_state: Vault) -> Vault:
    if file.salt and file.salt != of_state.state:
        return Vault(read_passphrase, file.salt, where=str(file.path))
    return of_state


def _unwanted(run: Run, seen: frozenset[str]) -> list[Doomed]:
    """What is to be deleted: all that the program did not register, and replaced ones that still have to go."""
    find_unwanted_aside(run, seen)
    _forget_made_again(run)
    doomed = [Doomed(r) for r in run.ledger.all() if r.delete or r.urn not in seen]
    for key in run.ledger.interrupted_keys():
        type_, begun = run.ledger.interrupted(key) or ("", None)
        if type_ == "creating" and begun is not None and key not in seen:
            doomed.append(Doomed(begun, unsure=True))
        elif run.ledger.get(key) is None and not run.dry_run:
            run.ledger.commit(end=[key])
    return doomed


def _forget_made_again(run: Run) -> None:
    """Drop what was to be deleted and is there again, under the same id, as a resource that is wanted."""
    known = run.ledger.all()
    live = {(r.type, r.id, r.provider) for r in known if r.managed and not r.delete and not r.pending_replacement}
    again = [r.key for r in known if r.delete and (r.type, r.id, r.provider) in live]
    if again and not run.dry_run:
        run.ledger.commit(drop=again)


def _summary(run: Run, outputs: dict[str, Any]) -> Summary:
    return Summary(count_changes(run.steps), tuple(run.steps), outputs)


def _shown(outputs: Properties, show_secrets: bool) -> dict[str, Any]:
    shown = values.plain(outputs) if show_secrets else values.redact(outputs)
    return {name: "[unknown]" if values.has_unknown(value) else value for name, value in shown.items()}


def _check_owner(state: State, target: Target, what: str) -> None:
    expected = f"urn:pulumi:{target.stack}::{target.project}::"
    foreign = [data["urn"] for data in state.resources.values() if not data["urn"].startswith(expected)]
    if foreign:
        raise InvalidProgramInput(
            f"{what} is not one of stack {target.stack!r} of project {target.project!r}: it has {foreign[0]}."
        )
