"""Read resources back: to finish an interrupted run, and to refresh the state."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

from kryonix.engines.local import values
from kryonix.engines.local.errors import LocalError, PrerequisiteMissing, ServiceUnavailable
from kryonix.engines.local.handlers.base import Handler, LiveResource
from kryonix.engines.local.resource import Resource
from kryonix.engines.local.run import Run
from kryonix.engines.local.state import now
from kryonix.errors import KryonixError

_UNAVAILABLE: Final = ServiceUnavailable.exit_status


def may_be_made(error: Exception) -> bool:
    """Return True if the resource may exist although its creation failed: the connection was lost."""
    return _unavailable(error) and not isinstance(error, PrerequisiteMissing)


def _unavailable(error: Exception) -> bool:
    return isinstance(error, KryonixError) and error.exit_status == _UNAVAILABLE


@dataclass(frozen=True, slots=True)
class Recovery:
    """Finish the interrupted operation on one resource before the run decides anything else about it.

    An unreachable service may have a wrong address in the inputs. If the program has other inputs by
    now, the run continues with those: create and update are idempotent. The record of a create stays until a run has
    found the resource, or found that it does not exist.
    """

    _run: Run
    _handler: Handler
    _wanted: Resource
    _differs: Callable[[Resource], bool]
    """Returns True if the program wants other inputs than the given resource has."""

    def recover(self, old: Resource | None) -> Resource | None:
        """Return the resource as it is after an unfinished operation; `old` if there was none."""
        ledger, urn, dry_run = self._run.ledger, self._wanted.urn, self._run.dry_run
        if not dry_run:
            for key, noted in ledger.aside(urn).items():
                old = self._repeat_create(key, noted, old, aside=True)
        interrupted = ledger.interrupted(urn)
        if interrupted is None:
            return old
        type_, recorded = interrupted
        if type_ == "creating":
            return old if dry_run or recorded is None else self._repeat_create(urn, recorded, old, aside=False)
        return self._read_again(old) if old else None

    def _repeat_create(self, key: str, recorded: Resource, old: Resource | None, *, aside: bool) -> Resource | None:
        """Repeat an interrupted create: that is idempotent, and returns the id of what may exist.

        With `aside`, the inputs have changed since: if another resource exists by now, it stays, and the found one is
        deleted at the end of the run.
        """
        ledger, create = self._run.ledger, self._handler.create if aside else self._handler.recreate
        with self._run.working(self._wanted, "create"):
            try:
                id_, outputs = create(values.plain(recorded.inputs))
            except Exception as error:
                if not may_be_made(error):
                    ledger.commit(end=[key])  # it can't be made with these inputs, so it does not exist
                elif not self._differs(recorded):
                    raise
                elif not aside:
                    ledger.set_aside(key, recorded)
                return old
            made = replace(recorded, provider=self._wanted.provider).made(id_, outputs, self._handler.secret_outputs)
            first, second = (old or made, made) if aside else (made, old)
            kept, leftover = (made, []) if old and old.id == made.id else self._choose(first, second)
            ledger.commit(put=[kept, *leftover], end=[key])
        return kept

    def _choose(self, first: Resource, second: Resource | None) -> tuple[Resource, list[Resource]]:
        """Return the first of two found resources, or the one the program wants; and the other, to delete."""
        if second is None or second.id == first.id or first.pending_replacement:
            return (second if second and first.pending_replacement else first), []
        if second.pending_replacement:
            return first, []
        if self._differs(first) and not self._differs(second):
            return second, [replace(first, delete=True)]
        return first, [replace(second, delete=True)]

    def _read_again(self, old: Resource) -> Resource | None:
        with self._run.working(old, "refresh"):
            try:
                live = self._handler.read(old.id, *old.plain)
            except Exception as error:
                if _unavailable(error) and self._differs(old):
                    return old  # the record stays until the next operation ends
                raise
            found = _adopted(old, live, self._handler) if live else None
            if not self._run.dry_run:
                self._run.ledger.commit(put=[found] if found else [], drop=[] if found else [old.key], end=[old.key])
        return found


def find_unwanted_aside(run: Run, seen: frozenset[str]) -> None:
    """Look a last time for creates set aside, at the end of the run.

    A found resource is deleted. If the service still does not answer, a warning names the resource.
    """
    for key, recorded in {} if run.dry_run else run.ledger.aside().items():
        put: list[Resource] = []
        try:
            if recorded.urn in seen:
                raise ServiceUnavailable("the run has tried already")
            handler = run.handler(recorded)
            made = recorded.made(*handler.create(values.plain(recorded.inputs)), handler.secret_outputs)
            put = [replace(made, delete=True)]
        except LocalError as error:
            if may_be_made(error):
                text = (
                    f"{recorded.type} '{recorded.name}': an earlier run may have made it with other inputs, and the "
                    "service in those inputs does not answer. No later run looks for it: if that service comes back, "
                    "look there"
                )
                run.say("warning", text, recorded.urn)
        run.ledger.commit(put=put, end=[key])


def refresh_all(run: Run) -> None:
    """Read all managed resources, in parallel. Raise the first failure after reading everything else.

    An unavailable service does not stop the others: the state has to learn that a container is gone, even when no
    service in it answers.
    """
    managed = [r for r in run.ledger.all() if r.managed and not r.delete and not r.pending_replacement]
    failures: dict[str, Exception] = {}

    def refresh(resource: Resource) -> None:
        if run.stopped or resource.provider in failures:  # one failure per provider is enough
            return
        try:
            _refresh(run, resource)
        except Exception as error:  # noqa: BLE001  in a thread; raised after all have ended
            failures.setdefault(resource.provider, error)

    with ThreadPoolExecutor(run.parallel, thread_name_prefix="refresh") as pool:
        list(pool.map(refresh, managed))
    for failure in failures.values():
        run.fail(failure)
    if run.failure is not None:
        raise run.failure


def _refresh(run: Run, resource: Resource) -> None:
    handler = run.handler(resource)
    interrupted = run.ledger.interrupted(resource.key)
    end = [resource.key] if interrupted and interrupted[0] != "creating" else []
    with run.working(resource, "refresh"):
        live = handler.read(resource.id, *resource.plain)
        if live is None:
            run.ledger.commit(drop=[resource.key], end=end)
            run.step(resource, "delete")
            return
        found = _adopted(resource, live, handler)
        names = values.changed_keys(resource.inputs, found.inputs) | values.changed_keys(
            resource.outputs, found.outputs
        )
        changed = tuple(sorted(names | ({"id"} if resource.id != found.id else set())))
        if changed or end:
            run.ledger.commit(put=[replace(found, modified=now())] if changed else [], end=end)
        run.step(resource, "update" if changed else "same", changed)


def _adopted(old: Resource, live: LiveResource, handler: Handler) -> Resource:
    """Return the resource as read; secrets stay secret."""
    inputs = values.mark_secrets(live.inputs, old.inputs)
    found = replace(old, inputs=inputs).made(live.id, live.outputs, handler.secret_outputs)
    secret = {
        key: values.Secret(value) for key, value in live.outputs.items() if values.has_secret(old.outputs.get(key))
    }
    return replace(found, outputs=found.outputs | secret)
