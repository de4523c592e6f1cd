"""Finishes what an earlier run was cut off in, before anything else is decided about a resource."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from kryonix.engines.local import values
from kryonix.engines.local.errors import LocalError, PrerequisiteMissing, ServiceUnavailable
from kryonix.engines.local.handlers.base import Handler, Live
from kryonix.engines.local.resource import Resource
from kryonix.engines.local.run import Run

__all__ = ["adopt", "may_be_made", "recover"]

_SERVICE_UNAVAILABLE: Final = 3

_UNRESOLVED: Final = (
    "{type} '{name}': an earlier run may have made it with other inputs, and the service that those name does not "
    "answer. It is not looked for again: if that service comes back, look there"
)

Differs = Callable[[Resource], bool]
"""Whether the program now wants other inputs than this resource has."""


def may_be_made(error: Exception) -> bool:
    """Whether something may be there, although its creation has failed so: the service was lost on the way."""
    return _service_unavailable(error) and not isinstance(error, PrerequisiteMissing)


def _service_unavailable(error: Exception) -> bool:
    return getattr(error, "exit_status", 1) == _SERVICE_UNAVAILABLE


def recover(run: Run, handler: Handler, wanted: Resource, old: Resource | None, differs: Differs) -> Resource | None:
    """The resource as it really stands, where an operation on it was begun and never ended; else `old`.

    A service that can't be reached may be one that the inputs name wrongly. Where the program has other inputs by now,
    those are gone on with, from `old`: to create and to update are idempotent. The note of a create stays until a run
    has found what it made, or that there is nothing.
    """
    if not run.dry_run:
        for key, noted in run.ledger.aside(wanted.urn).items():
            old = _find_aside(run, handler, wanted, key, noted, old, differs)
    interrupted = run.ledger.interrupted(wanted.urn)
    if interrupted is None:
        return old
    type_, begun = interrupted
    if type_ == "creating":
        return old if run.dry_run or begun is None else _finish_create(run, handler, wanted, begun, old, differs)
    return _read_again(run, handler, old, differs) if old else None


def adopt(old: Resource, live: Live, handler: Handler) -> Resource:
    """The resource with what was read of it; what was secret stays so."""
    names = handler.secret_outputs | frozenset(old.additional_secret_outputs)
    inputs = values.mark_secrets(live.inputs, old.inputs)
    outputs = values.mark_secrets(values.plain(values.mark_secrets(live.outputs, old.outputs, names)), inputs, names)
    outputs |= {key: values.Secret(live.outputs[key]) for key in outputs if values.has_secret(old.outputs.get(key))}
    return replace(old, id=live.id, inputs=inputs, outputs=outputs)


def _finish_create(
    run: Run, handler: Handler, wanted: Resource, begun: Resource, old: Resource | None, differs: Differs
) -> Resource | None:
    """Create again what was being created: that is idempotent, and tells the id of what may be there already."""
    with run.working(wanted, "create"):
        try:
            id_, outputs = handler.recreate(values.plain(begun.inputs))
        except Exception as error:
            if not may_be_made(error):
                run.ledger.commit(end=[wanted.key])  # it can't be made that way, so it is not there
                return old
            if not differs(begun):
                raise
            run.ledger.set_aside(wanted.key, begun)
            return old
        marked = values.mark_secrets(outputs, begun.inputs, handler.secret_outputs)
        final = replace(begun, id=id_, outputs=marked, provider=wanted.provider)
        kept, leftover = _kept(final, old, differs)
        run.ledger.commit(put=[kept, *leftover], end=[final.key])
    return kept


def _find_aside(
    run: Run, handler: Handler, wanted: Resource, key: str, begun: Resource, old: Resource | None, differs: Differs
) -> Resource | None:
    """Create again what an earlier run may have made, with inputs that were changed before it could be looked for.

    What is found beside the resource that there is by now is deleted at the end of the run. Found in its place, it is
    the resource, and brought to what the program wants.
    """
    with run.working(wanted, "create"):
        try:
            id_, outputs = handler.create(values.plain(begun.inputs))
        except Exception as error:
            if not may_be_made(error):
                run.ledger.commit(end=[key])
            elif not differs(begun):
                raise
            return old
        marked = values.mark_secrets(outputs, begun.inputs, handler.secret_outputs)
        found = replace(begun, id=id_, outputs=marked, provider=wanted.provider)
        kept, leftover = _kept(old or found, found, differs) if old is None or old.id != id_ else (found, [])
        run.ledger.commit(put=[kept, *leftover], end=[key])
    return kept


def _kept(first: Resource, second: Resource | None, differs: Differs) -> tuple[Resource, list[Resource]]:
    """Which of two that were found is the resource, the first or what the program wants; and the other, to delete."""
    if second is None or second.id == first.id or first.pending_replacement:
        return (first if second is None or not first.pending_replacement else second), []
    if second.pending_replacement:
        return first, []
    if differs(first) and not differs(second):
        return second, [replace(first, delete=True)]
    return first, [replace(second, delete=True)]


def find_unwanted_aside(run: Run, seen: frozenset[str]) -> None:
    """Look once more for what was set aside, at the end of a run that has made all that the program wants.

    What is found is to be deleted. What can't be asked any more is named in a warning: the address was mistyped, or
    that service is gone for good.
    """
    for key, begun in {} if run.dry_run else run.ledger.aside().items():
        put: list[Resource] = []
        try:
            if begun.urn in seen:
                raise ServiceUnavailable("it was asked in this run")
            handler = run.providers.handler(begun)
            id_, outputs = handler.create(values.plain(begun.inputs))
            marked = values.mark_secrets(outputs, begun.inputs, handler.secret_outputs)
            put = [replace(begun, id=id_, outputs=marked, delete=True)]
        except LocalError as error:
            if may_be_made(error):
                run.say("warning", _UNRESOLVED.format(type=begun.type, name=begun.name), begun.urn)
        run.ledger.commit(put=put, end=[key])


def _read_again(run: Run, handler: Handler, old: Resource, differs: Differs) -> Resource | None:
    with run.working(old, "refresh"):
        try:
            live = handler.read(old.id, values.plain(old.inputs), values.plain(old.outputs))
        except Exception as error:
            if _service_unavailable(error) and differs(old):
                return old  # the note stays, until the operation that is begun now ends
            raise
        if live is None:
            if not run.dry_run:
                run.ledger.commit(drop=[old.key], end=[old.key])
            return None
        found = adopt(old, live, handler)
        if not run.dry_run:
            run.ledger.commit(put=[found], end=[found.key])
    return found
