"""Finishes what an earlier run was cut off in, before anything else is decided about a resource."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from kryonix.local import values
from kryonix.local.errors import PrerequisiteMissing
from kryonix.local.handlers.base import Handler, Live
from kryonix.local.resource import Resource
from kryonix.local.run import Run

__all__ = ["adopt", "may_be_made", "recover"]

_SERVICE_UNAVAILABLE: Final = 3

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
    those are gone on with, from `old`: to create and to update are idempotent.
    """
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
            if may_be_made(error) and not differs(begun):
                raise
            run.ledger.commit(end=[wanted.key])  # it can't be made that way, or is no longer wanted that way
            return old
        marked = values.mark_secrets(outputs, begun.inputs, handler.secret_outputs)
        final = replace(begun, id=id_, outputs=marked, provider=wanted.provider)
        leftover = [replace(old, delete=True)] if old and old.id != id_ and not old.pending_replacement else []
        run.ledger.commit(put=[final, *leftover], end=[final.key])
    return final


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
