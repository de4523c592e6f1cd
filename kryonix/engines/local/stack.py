"""A stack run by the local engine: preview, up, refresh, destroy, outputs, export."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from kryonix.engines import nested
from kryonix.engines.deployments import SIGNATURE, Change, Deployment, entries
from kryonix.engines.events import OnEvent, Summary
from kryonix.engines.local import values
from kryonix.engines.local.deletion import Deletion, Doomed, refuse_protected
from kryonix.engines.local.errors import InvalidProgramInput, ServiceUnavailable
from kryonix.engines.local.handlers import provider
from kryonix.engines.local.handlers.base import Properties, ProviderFactory
from kryonix.engines.local.ledger import Ledger
from kryonix.engines.local.project import Project, StackFile
from kryonix.engines.local.recovery import find_unwanted_aside, refresh_all
from kryonix.engines.local.resource import Resource
from kryonix.engines.local.run import Run
from kryonix.engines.local.secrets import Vault
from kryonix.engines.local.stack_reference import StackReferences, outputs_of
from kryonix.engines.local.state import State
from kryonix.engines.local.store import Store, state_root


@dataclass
class LocalStack:
    """One stack of a project. Operations that change it hold its lock; each call opens and closes everything.

    `parallel` limits concurrent handler calls. `on_event` receives progress, one event at a time, from any thread.
    `providers` makes configured providers; default: those of `kryonix.engines.local.handlers`.
    """

    project: Path
    stack: str
    _: KW_ONLY
    config_file: Path | None = None
    parallel: int = 16
    on_event: OnEvent = lambda _: None
    providers: ProviderFactory = provider

    def __post_init__(self) -> None:
        self.project = self.project.absolute()
        self._store = Store(state_root(self.project), self.stack)

    def preview(self) -> Summary:
        """Run the program and return the changes of an `up`. Change nothing; needs no lock."""
        return self._apply(dry_run=True)

    def up(self) -> Summary:
        """Run the program, bring everything to what it wants, then delete what it no longer has."""
        return self._apply(dry_run=False)

    def refresh(self) -> Summary:
        """Read all resources back into the state. The next `up` repairs differences."""
        from kryonix.engines.local.program import in_project

        with self._run() as run, in_project(self.project):
            refresh_all(run)
            return run.summary()

    def destroy(self) -> Summary:
        """Delete everything in the state, without running the program."""
        with self._run() as run:
            self._delete(run, _unwanted(run, frozenset()), lambda _: True)
            return run.summary()

    @property
    def has_resources(self) -> bool:
        """True if the state holds anything. Needs no passphrase."""
        return bool(self._store.load().resources)

    def outputs(self, show_secrets: bool = False) -> dict[str, Any]:
        """Return the outputs of the last successful `up`; secret ones as `[secret]` unless `show_secrets`."""
        return _shown(outputs_of(self._store), show_secrets)

    def export(self, show_secrets: bool = False) -> dict[str, Any]:
        """Return the deployment, as `pulumi stack export` prints it and `pulumi stack import` reads it."""
        state = self._store.load()
        document, vault = state.document(), self._store.vault(state)
        return _with_secrets(document, vault.decrypt, "ciphertext", "plaintext") if show_secrets else document

    def rewrite(self, change: Change) -> None:
        """Replace the deployment by `change` of it, with secrets in plain text. Touch no resource."""
        with self._store.lock():
            state = self._store.load()
            vault = self._store.vault(state)
            plain = _with_secrets(state.document(), vault.decrypt, "ciphertext", "plaintext")
            sealed = _with_secrets(change(plain), vault.encrypt, "plaintext", "ciphertext")
            changed = State.of_document(sealed, where=f"the new state of {self.stack!r}")
            changed.salt = vault.state
            self._store.save(changed)

    def restore(self, deployment: Deployment) -> None:
        """Replace the state by an exported deployment. Touch no resource.

        Raises StateCorrupt, InvalidProgramInput for another stack's, or PassphraseError; then nothing is changed.
        """
        where = f"the deployment to restore as {self.stack!r}"
        restored = State.of_document(deployment, where=where)
        self._refuse_foreign(restored, Project.load(self.project), where)
        vault = Vault(restored.salt, where=where)
        _with_secrets(deployment, vault.decrypt, "ciphertext", "plaintext")
        with self._store.lock():
            self._store.save(restored)

    def _apply(self, dry_run: bool) -> Summary:
        # Imported here: they load the SDK's protocol, which other operations do without.
        from kryonix.engines.local.monitor import Monitor
        from kryonix.engines.local.program import run_program
        from kryonix.engines.local.registrar import Registrar

        with self._run(dry_run=dry_run) as run:
            at_start = run.ledger.keys()
            references = StackReferences(run, self._store.folder.parent)
            references.warm()
            registrar = Registrar(run)
            monitor = Monitor(run, registrar, references)
            run_program(run, monitor)
            monitor.commit_outputs()
            doomed = _unwanted(run, registrar.seen)
            self._delete(run, doomed, lambda node: not node.delete or node.key in at_start)
            return run.summary(_shown(monitor.outputs, False))

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
        with in_project(self.project):
            Deletion(run, doomed).execute()

    def _refuse_foreign(self, state: State, project: Project, where: str) -> None:
        """Raise InvalidProgramInput for the state of another stack or project."""
        expected = f"urn:pulumi:{self.stack}::{project.name}::"
        if foreign := [data["urn"] for data in state.resources.values() if not data["urn"].startswith(expected)]:
            raise InvalidProgramInput(
                f"{where} is not that of stack {self.stack!r} of project {project.name!r}: it contains {foreign[0]}."
            )

    @contextmanager
    def _run(self, *, dry_run: bool = False) -> Iterator[Run]:
        project = Project.load(self.project)
        file = StackFile(project, self.stack, self.config_file)
        with nullcontext() if dry_run else self._store.lock():
            state = self._store.load()
            self._refuse_foreign(state, project, f"The state in {self._store.folder}")
            of_file = Vault(file.salt, where=str(file.path))
            vault = of_file if file.salt and not state.salt else self._store.vault(state)
            vault.warm()
            config = file.config(vault if file.salt in ("", state.salt) else of_file)
            ledger = Ledger(state, vault, None if dry_run else self._store)
            run = Run(
                project=project,
                stack=self.stack,
                config=config,
                ledger=ledger,
                providers=self.providers,
                on_event=self.on_event,
                parallel=self.parallel,
                dry_run=dry_run,
            )
            try:
                yield run
            finally:
                run.close()
                try:
                    ledger.close()
                except OSError as error:
                    raise ServiceUnavailable(
                        f"The state in {self._store.folder} can't be written: {error}. The changes are in the journal "
                        "there, as far as it could be written. Make room, and run again."
                    ) from error


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


def _with_secrets(document: Deployment, change: Callable[[str, str], str], old: str, new: str) -> Deployment:
    """Return the deployment with its secrets encrypted or decrypted; `change` also gets the URN of the resource."""

    def changed(data: Mapping[str, Any]) -> Any:
        def secret(part: Any) -> Any:
            if not (isinstance(part, dict) and SIGNATURE in part):
                return part
            return {key: value for key, value in part.items() if key != old} | {new: change(part[old], data["urn"])}

        return nested.changed(data, secret)

    resources = [changed(data) for data in entries(document)]
    pending = [{**each, "resource": changed(each["resource"])} for each in entries(document, "pending_operations")]
    return {**document, "deployment": {**document["deployment"], "resources": resources, "pending_operations": pending}}
