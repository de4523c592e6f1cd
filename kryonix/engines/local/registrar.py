"""Bring each registered resource to what the program wants: create, update, replace, or leave it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from threading import Lock
from uuid import uuid4

from kryonix.engines.events import Op
from kryonix.engines.local import values
from kryonix.engines.local.deletion import Deletion, Doomed, refuse_protected
from kryonix.engines.local.errors import InvalidProgramInput
from kryonix.engines.local.handlers.base import UNKNOWN, Diff, Handler, Properties
from kryonix.engines.local.recovery import Recovery, may_be_made
from kryonix.engines.local.resource import PROVIDER_PREFIX, Resource, name_of, package_of
from kryonix.engines.local.run import Run
from kryonix.engines.local.state import now


class Registrar:
    """Answer registrations. Thread-safe: the program registers from many threads at once."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._lock = Lock()
        self._defaults_lock = Lock()
        self._defaults: dict[tuple[str, str], Resource] = {}
        self._seen: set[str] = set()
        self._aliased: dict[str, str] = {}
        self._aliases: dict[str, tuple[str, ...]] = {}
        self._replacing: set[str] = set()

    @property
    def seen(self) -> frozenset[str]:
        """URNs of everything the program registered."""
        with self._lock:
            return frozenset(self._seen)

    def register(self, draft: Resource, version: str, aliases: Sequence[str], old_first: bool | None) -> Resource:
        """Return the resource as it is after the change; in a preview, as it would be.

        `draft` is what the program wants: its inputs are unchecked, and it has no outputs. `old_first` is its
        `delete_before_replace`.
        """
        self._run.check()
        old = self._claim(draft, aliases)
        draft = _after(old, draft)
        if not draft.custom:
            self._run.ledger.keep(draft)
            self._report(draft, "same" if old else "create")
            return draft
        if draft.is_provider:
            return self._settle_provider(replace(draft, inputs=draft.inputs | _versioned(version)), old)
        provider = draft.provider or self._default_provider(package_of(draft.type), version)
        return self._managed(replace(draft, provider=provider), old, old_first)

    def read(self, resource: Resource) -> Resource:
        """Record an external resource."""
        with self._lock:
            self._take(resource.urn)
        resource = replace(resource, provider=resource.provider or self._default_provider("pulumi", ""))
        self._run.ledger.keep(resource)
        return resource

    # --- the resource in the state

    def _claim(self, draft: Resource, own_aliases: Sequence[str]) -> Resource | None:
        """Take the URN and return the resource in the state under it, or renamed from one of the aliases."""
        ledger, wanted = self._run.ledger, draft.urn
        with self._lock:
            self._take(wanted)
            aliases = self._aliases[wanted] = (*own_aliases, *self._inherited(draft))
            found = next((urn for urn in (wanted, *aliases) if ledger.get(urn)), None)
            if found == wanted:
                return ledger.get(wanted)
            for taken in aliases:
                if taken in self._aliased or (taken == found and taken in self._seen):
                    other = self._aliased.get(taken, taken)
                    raise InvalidProgramInput(f"{wanted} has the alias {taken}, which {other} claims as well.")
            old = ledger.get(found) if found else None
            if found is None or old is None:
                return None
            self._aliased[found] = wanted
            renamed = replace(old, urn=wanted, type=draft.type)
            ledger.commit(put=[renamed], drop=[found], rename=(found, wanted))
            return renamed

    def _inherited(self, draft: Resource) -> Iterator[str]:
        """Yield the URNs of a child under its parent's aliases, as the Pulumi CLI derives them.

        A name that starts with its parent's name follows the parent's old name.
        """
        for alias in self._aliases.get(draft.parent, ()):
            old, new = name_of(alias), name_of(draft.parent)
            name = old + draft.name.removeprefix(new) if draft.name.startswith(new) else draft.name
            yield self._run.urn(alias, draft.type, name)

    def _take(self, urn: str) -> None:
        if urn in self._seen:
            raise InvalidProgramInput(
                f"Duplicate resource URN {urn!r}: two resources of the program have the same type, parent and name. "
                "Give each its own name."
            )
        if urn in self._aliased:
            raise InvalidProgramInput(f"{urn} was already claimed by {self._aliased[urn]} through an alias.")
        self._seen.add(urn)

    # --- providers

    def _settle_provider(self, draft: Resource, old: Resource | None) -> Resource:
        changed = tuple(sorted(values.changed_keys(old.inputs, draft.inputs))) if old else ()
        stamp = now()
        final = replace(
            draft,
            id=old.id if old else values.UNKNOWN_TEXT if self._run.dry_run else str(uuid4()),
            outputs={name: value for name, value in draft.inputs.items() if name != "__internal"},
            created=draft.created or stamp,
            modified=draft.modified if old and not changed else stamp,
        )
        self._run.ledger.keep(final)
        self._report(final, "create" if old is None else "update" if changed else "same", changed)
        return final

    def _default_provider(self, package: str, version: str) -> str:
        """Return the reference of a package's default provider, made on first use."""
        with self._defaults_lock:
            if (package, version) not in self._defaults:
                self._defaults[package, version] = self._make_default(package, version)
            made = self._defaults[package, version]
            return f"{made.urn}::{made.id}"

    def _make_default(self, package: str, version: str) -> Resource:
        suffix = "_" + re.sub("[-+.]", "_", version) if version else ""
        type_, config = f"{PROVIDER_PREFIX}{package}", self._run.config
        urn = self._run.urn("", type_, f"default{suffix}")
        inputs: Properties = {
            key.removeprefix(f"{package}:"): values.Secret(value) if key in config.secret_keys else value
            for key, value in config.values.items()
            if key.startswith(f"{package}:")
        }
        with self._lock:
            self._seen.add(urn)
        old = self._run.ledger.get(urn)
        draft = Resource(urn=urn, type=type_, custom=True, inputs=inputs | _versioned(version))
        return self._settle_provider(_after(old, draft), old)

    # --- resources with a handler

    def _managed(self, draft: Resource, old: Resource | None, old_first: bool | None) -> Resource:
        handler = self._run.handler(draft)

        def differs(recorded: Resource) -> bool:
            return bool(values.changed_keys(recorded.inputs, self._checked(handler, draft, recorded).inputs))

        old = Recovery(self._run, handler, draft, differs).recover(old)
        if old is not None and old.pending_replacement:
            self._replacing.add(draft.urn)
        if draft.urn in self._replacing:
            old = None
        checked = self._checked(handler, draft, old)
        if old is None:
            return self._create(handler, checked, "replace" if draft.urn in self._replacing else "create")
        with self._run.checking(checked):
            diff = handler.diff(old.id, *old.plain, values.plain(checked.inputs))
        if diff.replaces:
            return self._replace(handler, draft, old, diff, old_first)
        if diff.changed:
            return self._update(handler, checked, old, diff)
        final = replace(checked, id=old.id, outputs=old.outputs)
        self._run.ledger.keep(final)
        self._report(final, "same")
        return final

    def _checked(self, handler: Handler, draft: Resource, old: Resource | None) -> Resource:
        """Return the draft with checked inputs: the program's, or the old ones with `ignore_changes=["*"]`."""
        if old and draft.ignore_changes:
            return replace(draft, inputs=old.inputs)
        with self._run.checking(draft):
            inputs = handler.check(values.plain(old.inputs) if old else None, values.plain(draft.inputs))
        return replace(draft, inputs=values.mark_secrets(inputs, draft.inputs))

    def _create(
        self, handler: Handler, draft: Resource, op: Op, *, old: Resource | None = None, changed: tuple[str, ...] = ()
    ) -> Resource:
        run, inputs = self._run, values.plain(draft.inputs)
        run.step(draft, op, changed)
        if run.dry_run:
            run.report(draft, op, changed)
            return draft.made("", inputs, handler.secret_outputs)
        stamp = now()
        draft = replace(draft, created=stamp, modified=stamp, id="", outputs={})
        with run.working(draft, op, changed):
            run.ledger.begin("creating", [draft])
            try:
                final = draft.made(*handler.create(inputs), handler.secret_outputs)
            except Exception as error:
                if not may_be_made(error):
                    run.ledger.commit(end=[draft.key])
                raise
            leftover = [replace(old, delete=True)] if old and old.id != final.id else []
            run.ledger.commit(put=[final, *leftover], end=[final.key])
        return final

    def _update(self, handler: Handler, draft: Resource, old: Resource, diff: Diff) -> Resource:
        run, wanted = self._run, values.plain(draft.inputs)
        run.step(draft, "update", diff.changed)
        if run.dry_run:
            run.report(draft, "update", diff.changed)
            planned = draft.made(old.id, values.plain(old.outputs) | wanted, handler.secret_outputs)
            return replace(planned, outputs=values.mark_secrets(planned.outputs, old.outputs))
        with run.working(draft, "update", diff.changed):
            run.ledger.begin("updating", [old])
            outputs = handler.update(old.id, *old.plain, wanted)
            final = replace(draft, modified=now()).made(old.id, outputs, handler.secret_outputs)
            run.ledger.commit(put=[final], end=[final.key])
        return final

    def _replace(
        self, handler: Handler, draft: Resource, old: Resource, diff: Diff, old_first: bool | None
    ) -> Resource:
        if old.protect and draft.protect:
            refuse_protected([old])
        draft = self._checked(handler, draft, None)
        if not (diff.delete_before_replace if old_first is None else old_first):
            return self._create(handler, draft, "replace", old=old, changed=diff.replaces)
        if not self._run.dry_run:
            with self._run.checking(draft):
                handler.prepare(values.plain(old.inputs), values.plain(draft.inputs))
        doomed = [old, *self._dependents(old)]
        refuse_protected(doomed[1:])
        with self._lock:
            self._replacing.update(resource.urn for resource in doomed)
        if not self._run.dry_run:
            Deletion(self._run, [Doomed(resource) for resource in doomed], keep=True).execute()
        return self._create(handler, draft, "replace", changed=diff.replaces)

    def _dependents(self, root: Resource) -> list[Resource]:
        """Return the resources to replace too, because they use a changing output of `root`."""
        found: dict[str, Resource] = {root.urn: root}
        with self._lock:
            done = set(self._seen)
        candidates = [r for r in self._run.ledger.all() if r.managed and not r.delete and r.urn not in done]
        size = 0
        while size < len(found):
            size = len(found)
            for resource in candidates:
                if resource.urn not in found and self._falls_with(resource, found):
                    found[resource.urn] = resource
        return list(found.values())[1:]

    def _falls_with(self, resource: Resource, replaced: Mapping[str, Resource]) -> bool:
        unknown = {key: UNKNOWN for key, deps in resource.property_dependencies.items() if replaced.keys() & set(deps)}
        if not unknown:
            return False
        handler = self._run.handler(resource)
        inputs, outputs = resource.plain
        with self._run.checking(resource):
            return bool(handler.diff(resource.id, inputs, outputs, inputs | unknown).replaces)

    def _report(self, resource: Resource, op: Op, changed: tuple[str, ...] = ()) -> None:
        self._run.step(resource, op, changed)
        self._run.report(resource, op, changed)


def _versioned(version: str) -> Properties:
    return {"version": version, "__internal": {}} if version else {}


def _after(old: Resource | None, draft: Resource) -> Resource:
    """Return the draft with id, outputs and timestamps of the old resource."""
    if old is None:
        return draft
    return replace(draft, id=old.id, outputs=old.outputs, created=old.created, modified=old.modified)
