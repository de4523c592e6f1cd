"""Reads every managed resource back, so that state says what is really there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from kryonix.engines.local import values
from kryonix.engines.local.recovery import adopt
from kryonix.engines.local.resource import Resource
from kryonix.engines.local.run import Run
from kryonix.engines.local.state import now

__all__ = ["refresh_all"]


def refresh_all(run: Run) -> None:
    """Read all, in parallel. Raises the first failure once everything else was read.

    What one service can't tell keeps nobody from reading the others: the state has to hear that a container is gone,
    above all where nothing in it answers any more.
    """
    managed = [r for r in run.ledger.all() if r.managed and not r.delete and not r.pending_replacement]
    failures: dict[str, Exception] = {}
    with ThreadPoolExecutor(run.parallel, thread_name_prefix="refresh") as pool:
        futures = [pool.submit(_refresh, run, resource, failures) for resource in managed]
    for future in futures:
        future.exception()
    for failure in failures.values():
        run.fail(failure)
    if run.failure is not None:
        raise run.failure


def _refresh(run: Run, resource: Resource, failures: dict[str, Exception]) -> None:
    """Read one resource, unless its provider has failed already: a service that is away would be asked for each."""
    if run.stopped or resource.provider in failures:
        return
    try:
        _read(run, resource)
    except Exception as error:  # noqa: BLE001  in a thread; raised once all have ended
        failures.setdefault(resource.provider, error)


def _read(run: Run, resource: Resource) -> None:
    handler = run.providers.handler(resource)
    interrupted = run.ledger.interrupted(resource.key)
    end = [resource.key] if interrupted and interrupted[0] != "creating" else []
    with run.working(resource, "refresh"):
        live = handler.read(resource.id, values.plain(resource.inputs), values.plain(resource.outputs))
        if live is None:
            run.ledger.commit(drop=[resource.key], end=end)
            run.step(resource, "delete")
            return
        found = adopt(resource, live, handler)
        changed = _differing(resource, found)
        if changed:
            run.ledger.commit(put=[replace(found, modified=now())], end=end)
            run.step(resource, "update", changed)
            return
        if end:
            run.ledger.commit(end=end)
        run.step(resource, "same")


def _differing(old: Resource, new: Resource) -> tuple[str, ...]:
    names: set[str] = set()
    for before, after in ((old.inputs, new.inputs), (old.outputs, new.outputs)):
        names |= {k for k in {*before, *after} if values.plain(before.get(k)) != values.plain(after.get(k))}
    if old.id != new.id:
        names.add("id")
    return tuple(sorted(names))
