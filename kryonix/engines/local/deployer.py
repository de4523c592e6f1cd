"""Decides what becomes of each resource the program registers: create, update, replace, or leave as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock
from typing import Any
from uuid import uuid4

from kryonix.engines.local import urn as urns
from kryonix.engines.local import values
from kryonix.engines.local.deletion import Deletion, Doomed, refuse_protected
from kryonix.engines.local.errors import ApplyFailed, InvalidProgramInput
from kryonix.engines.local.goal import Goal
from kryonix.engines.local.handlers.base import UNKNOWN, Diff, Handler, Properties
from kryonix.engines.local.property_path import keep_old
from kryonix.engines.local.recovery import may_be_made, recover
from kryonix.engines.local.resource import PROVIDER_PREFIX, Resource
from kryonix.engines.local.run import Run
from kryonix.engines.local.stack_config import StackConfig
from kryonix.engines.local.state import now

__all__ = ["Deployer"]


@dataclass(frozen=True, slots=True)
class _Work:
    """One managed resource on its way: what is wanted, what there was, and the inputs that were checked."""

    goal: Goal
    draft: Resource
    old: Resource | None
    handler: Handler

    def marked(self, outputs: Mapping[str, Any]) -> Properties:
        """Outputs with everything secret marked as such."""
        names = self.handler.secret_outputs | frozenset(self.goal.secret_outputs)
        return values.mark_secrets(outputs, self.draft.inputs, names)


class Deployer:
    """The engine's half of a registration. Thread-safe: the program registers from many threads at once."""

    def __init__(self, run: Run, config: StackConfig) -> None:
        self._run = run
        self._config = config
        self._lock = Lock()
        self._defaults_lock = Lock()
        self._defaults: dict[tuple[str, str], Resource] = {}
        self._seen: set[str] = set()
        self._aliased: dict[str, str] = {}
        self._replacing: set[str] = set()

    @property
    def seen(self) -> frozenset[str]:
        """URNs of everything the program registered."""
        with self._lock:
            return frozenset(self._seen)

    def register(self, goal: Goal) -> Resource:
        """Bring a resource to what the program wants, and return it as it now is (in a preview: as it would be)."""
        self._run.check()
        old = self._claim(goal)
        if not goal.custom:
            return self._component(goal, old)
        if goal.is_provider:
            return self._provider(goal, old)
        return self._managed(goal, old)

    def read(self, resource: Resource) -> Resource:
        """Note a resource that is only read, never managed."""
        with self._lock:
            self._take(resource.urn)
        old = self._run.ledger.get(resource.urn)
        if old is not None and not old.external:
            raise ApplyFailed(
                f"{resource.type} '{resource.name}' is managed by this stack and can't be turned into one that is only "
                "read here; use the Pulumi CLI for that."
            )
        draft = replace(resource, provider=resource.provider or self._default_provider("pulumi", ""))
        self._run.ledger.keep(draft)
        return draft

    def default_provider(self, package: str, version: str) -> str:
        """The reference of a package's default provider, which is made when first asked for."""
        return self._default_provider(package, version)

    # --- finding what there was

    def _claim(self, goal: Goal) -> Resource | None:
        """Take the URN, and find the resource in state under it or under an alias, which is then renamed."""
        ledger = self._run.ledger
        with self._lock:
            self._take(goal.urn)
            found = next((urn for urn in (goal.urn, *goal.aliases) if ledger.get(urn)), None)
            if found == goal.urn:
                return ledger.get(goal.urn)
            for taken in goal.aliases:
                if taken in self._aliased or (taken == found and taken in self._seen):
                    other = self._aliased.get(taken, taken)
                    raise InvalidProgramInput(f"{goal.urn} has the alias {taken}, which {other} claims as well.")
            if found is None:
                return None
            self._aliased[found] = goal.urn
            return self._renamed(found, goal)

    def _renamed(self, found: str, goal: Goal) -> Resource | None:
        old = self._run.ledger.get(found)
        if old is None:
            return None
        renamed = replace(old, urn=goal.urn, type=goal.type)
        self._run.ledger.keep(renamed, rename=found)
        return renamed

    def _take(self, urn: str) -> None:
        if urn in self._seen:
            raise InvalidProgramInput(
                f"Duplicate resource URN {urn!r}: two resources of the program have the same type, parent and name. "
                "Give each its own name."
            )
        if urn in self._aliased:
            raise InvalidProgramInput(f"{urn} was already claimed by {self._aliased[urn]} through an alias.")
        self._seen.add(urn)

    # --- what no handler manages

    def _draft(self, goal: Goal, inputs: Properties, old: Resource | None) -> Resource:
        return Resource(
            urn=goal.urn,
            type=goal.type,
            custom=goal.custom,
            id=old.id if old else "",
            inputs=inputs,
            outputs=old.outputs if old else {},
            parent=goal.parent,
            dependencies=goal.dependencies,
            property_dependencies={key: deps for key, deps in goal.property_dependencies.items() if deps},
            deleted_with=goal.inherited.deleted_with,
            protect=bool(goal.inherited.protect),
            retain_on_delete=bool(goal.inherited.retain_on_delete),
            additional_secret_outputs=goal.secret_outputs,
            ignore_changes=goal.ignore_changes,
            created=old.created if old else "",
            modified=old.modified if old else "",
        )

    def _component(self, goal: Goal, old: Resource | None) -> Resource:
        draft = self._draft(goal, goal.inputs, old)
        self._run.ledger.keep(draft)
        self._told(draft, "same" if old else "create")
        return draft

    def _provider(self, goal: Goal, old: Resource | None) -> Resource:
        inputs = dict(goal.inputs)
        if goal.version:
            inputs |= {"version": goal.version, "__internal": {}}
        return self._settle_provider(self._draft(goal, inputs, old), old, counted=True)

    def _settle_provider(self, draft: Resource, old: Resource | None, *, counted: bool) -> Resource:
        changed = tuple(sorted(_changed(old.inputs, draft.inputs))) if old else ()
        outputs = {name: value for name, value in draft.inputs.items() if name != "__internal"}
        id_ = old.id if old else values.UNKNOWN_TEXT if self._run.dry_run else str(uuid4())
        stamp = now()
        final = replace(
            draft,
            id=id_,
            outputs=outputs,
            created=draft.created or stamp,
            modified=draft.modified if old and not changed else stamp,
        )
        self._run.providers.register(final)
        self._run.ledger.keep(final)
        if counted:
            self._told(final, "create" if old is None else "update" if changed else "same", changed)
        return final

    def _default_provider(self, package: str, version: str) -> str:
        with self._defaults_lock:
            known = self._defaults.get((package, version))
            if known is None:
                known = self._defaults[package, version] = self._make_default(package, version)
            return f"{known.urn}::{known.id}"

    def _make_default(self, package: str, version: str) -> Resource:
        suffix = version.replace("-", "_").replace("+", "_").replace(".", "_")
        name = f"default_{suffix}" if version else "default"
        type_ = f"{PROVIDER_PREFIX}{package}"
        urn = urns.make(self._run.target.stack, self._run.target.project, "", type_, name)
        inputs: Properties = {
            key: values.Secret(value) if f"{package}:{key}" in self._config.secret_keys else value
            for key, value in self._config.of_package(package).items()
        }
        if version:
            inputs |= {"version": version, "__internal": {}}
        with self._lock:
            self._seen.add(urn)
        old = self._run.ledger.get(urn)
        draft = Resource(urn=urn, type=type_, custom=True, inputs=inputs, created=old.created if old else "")
        draft = replace(draft, modified=old.modified if old else "")
        return self._settle_provider(draft, old, counted=False)

    # --- what a handler manages

    def _managed(self, goal: Goal, old: Resource | None) -> Resource:
        provider = goal.provider or self._default_provider(urns.package_of(goal.type), goal.version)
        draft = replace(self._draft(goal, {}, old), provider=provider)
        handler = self._run.providers.handler(draft)
        old = recover(self._run, handler, draft, old, partial(self._differs, handler, draft, goal))
        if old is not None and old.pending_replacement:
            self._replacing.add(goal.urn)
        again = None if old is None or goal.urn in self._replacing else old
        work = _Work(goal, self._checked(handler, draft, goal, again), again, handler)
        if again is None:
            return self._create(work, "replace" if goal.urn in self._replacing else "create")
        diff = self._diff(work, again)
        if diff.replaces:
            return self._replace(work, again, diff)
        if diff.changed:
            return self._update(work, again, diff)
        final = replace(work.draft, id=again.id, outputs=again.outputs)
        self._run.ledger.keep(final)
        self._told(final, "same")
        return final

    def _checked(self, handler: Handler, draft: Resource, goal: Goal, old: Resource | None) -> Resource:
        wanted = keep_old(goal.inputs, old.inputs, goal.ignore_changes) if old else goal.inputs
        with self._run.working_quietly(draft):
            inputs = handler.check(values.plain(old.inputs) if old else None, values.plain(wanted))
        return replace(draft, inputs=values.mark_secrets(inputs, wanted))

    def _differs(self, handler: Handler, draft: Resource, goal: Goal, noted: Resource) -> bool:
        return bool(_changed(noted.inputs, self._checked(handler, draft, goal, noted).inputs))

    def _diff(self, work: _Work, old: Resource) -> Diff:
        with self._run.working_quietly(work.draft):
            return work.handler.diff(
                old.id, values.plain(old.inputs), values.plain(old.outputs), values.plain(work.draft.inputs)
            )

    def _create(self, work: _Work, op: Any, *, old: Resource | None = None, changed: tuple[str, ...] = ()) -> Resource:
        draft, run = work.draft, self._run
        self._count(draft, op, changed)
        if run.dry_run:
            run.tell(draft, op, changed)
            return replace(draft, id="", outputs=work.marked(values.plain(draft.inputs)))
        stamp = now()
        draft = replace(draft, created=stamp, modified=stamp, id="", outputs={})
        with run.working(draft, op, changed):
            run.ledger.begin("creating", [draft])
            try:
                id_, outputs = work.handler.create(values.plain(draft.inputs))
            except Exception as error:
                if not may_be_made(error):
                    run.ledger.commit(end=[draft.key])
                raise
            final = replace(draft, id=id_, outputs=work.marked(outputs))
            leftover = [replace(old, delete=True)] if old and old.id != id_ else []
            run.ledger.commit(put=[final, *leftover], end=[final.key])
        return final

    def _update(self, work: _Work, old: Resource, diff: Diff) -> Resource:
        draft, run = work.draft, self._run
        self._count(draft, "update", diff.changed)
        if run.dry_run:
            run.tell(draft, "update", diff.changed)
            outputs = values.plain(old.outputs) | values.plain(draft.inputs)
            return replace(draft, id=old.id, outputs=values.mark_secrets(work.marked(outputs), old.outputs))
        with run.working(draft, "update", diff.changed):
            run.ledger.begin("updating", [old])
            outputs = work.handler.update(
                old.id, values.plain(old.inputs), values.plain(old.outputs), values.plain(draft.inputs)
            )
            final = replace(draft, id=old.id, outputs=work.marked(outputs), modified=now())
            run.ledger.commit(put=[final], end=[final.key])
        return final

    def _replace(self, work: _Work, old: Resource, diff: Diff) -> Resource:
        goal = work.goal
        if old.protect and work.draft.protect:
            refuse_protected([old])
        work = replace(work, draft=self._checked(work.handler, work.draft, goal, None))
        before = goal.delete_before_replace
        if before if before is not None else diff.delete_before_replace:
            if not self._run.dry_run:
                with self._run.working_quietly(work.draft):
                    work.handler.prepare(values.plain(old.inputs), values.plain(work.draft.inputs))
            self._delete_first(old)
            return self._create(work, "replace", changed=diff.replaces)
        return self._create(work, "replace", old=old, changed=diff.replaces)

    def _delete_first(self, old: Resource) -> None:
        """Delete a resource, and before it those that can't outlive it; they are created again as they come along."""
        doomed = [old, *self._dependents(old)]
        refuse_protected(doomed[1:])
        with self._lock:
            self._replacing.update(resource.urn for resource in doomed)
        if not self._run.dry_run:
            Deletion(self._run, [Doomed(resource) for resource in doomed], keep=True).execute()

    def _dependents(self, root: Resource) -> list[Resource]:
        """Resources in state that would be replaced as well, once what they take from this one is no longer known."""
        replaced = {root.urn}
        found: dict[str, Resource] = {}
        with self._lock:
            done = set(self._seen)
        candidates = [r for r in self._run.ledger.all() if r.managed and not r.delete and r.urn not in done]
        grown = True
        while grown:
            grown = False
            for resource in candidates:
                if resource.urn not in replaced and self._falls_with(resource, replaced):
                    replaced.add(resource.urn)
                    found[resource.urn] = resource
                    grown = True
        return list(found.values())

    def _falls_with(self, resource: Resource, replaced: set[str]) -> bool:
        unknown = {key: UNKNOWN for key, deps in resource.property_dependencies.items() if replaced.intersection(deps)}
        if not unknown:
            return False
        handler = self._run.providers.handler(resource)
        inputs, outputs = values.plain(resource.inputs), values.plain(resource.outputs)
        with self._run.working_quietly(resource):
            return bool(handler.diff(resource.id, inputs, outputs, inputs | unknown).replaces)

    # --- telling

    def _count(self, resource: Resource, op: Any, changed: tuple[str, ...] = ()) -> None:
        self._run.step(resource, op, changed)

    def _told(self, resource: Resource, op: Any, changed: tuple[str, ...] = ()) -> None:
        self._run.step(resource, op, changed)
        self._run.tell(resource, op, changed)


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> set[str]:
    return {key for key in {*old, *new} if values.plain(old.get(key)) != values.plain(new.get(key))}
