"""Delete resources in parallel, each before those it needs.

A resource deleted *with* another (`deletedWith`) gets no call of its own: it is gone with the other, in the same record
of the journal.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from typing import Final

from kryonix.engines.local.errors import LocalError, Protected
from kryonix.engines.local.recovery import may_be_made
from kryonix.engines.local.resource import Resource
from kryonix.engines.local.run import Run

_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Doomed:
    """A resource to delete. `unsure`: its creation was interrupted, and it may not exist."""

    resource: Resource
    unsure: bool = False


def refuse_protected(resources: Iterable[Resource]) -> None:
    """Raise Protected naming the first protected resources among those to be deleted."""
    protected = [f"{r.type} '{r.name}'" for r in resources if r.protect and not r.delete]
    if protected:
        shown = ", ".join(protected[:_SHOWN]) + (f" and {len(protected) - _SHOWN} more" if protected[_SHOWN:] else "")
        raise Protected(
            f"Protected against deletion: {shown}. Nothing was deleted. To delete it, set "
            "protect=False in the program, run `up`, and then remove it."
        )


class Deletion:
    """A set of resources to delete. With `keep` they stay in the state, as pending replacements."""

    def __init__(self, run: Run, doomed: Sequence[Doomed], *, keep: bool = False) -> None:
        self._run = run
        self._keep = keep
        self._nodes = list(doomed)
        self._by_urn: dict[str, list[int]] = defaultdict(list)
        for index, node in enumerate(self._nodes):
            self._by_urn[node.resource.urn].append(index)
        self._root = [self._root_of(index) for index in range(len(self._nodes))]
        self._reach: dict[int, set[int]] = {}
        self._members: dict[int, list[Resource]] = defaultdict(list)
        for index, root in enumerate(self._root):
            if index != root:
                self._members[root].append(self._nodes[index].resource)

    def execute(self) -> None:
        """Delete all. After a failure start nothing more, wait for running calls, and raise the failure."""
        with self._run.failing():
            graph = self._graph()
            ready = deque(graph.get_ready())
            running: dict[Future[None], int] = {}
            most = 4 * self._run.parallel  # each wait looks at all that are running
            with ThreadPoolExecutor(self._run.parallel, thread_name_prefix="delete") as pool:
                while ready or running:
                    if self._run.stopped:
                        ready.clear()
                    while ready and len(running) < most:
                        index = ready.popleft()
                        running[pool.submit(self._delete, index)] = index
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        index = running.pop(future)
                        if error := future.exception():
                            self._run.fail(error)
                        else:
                            graph.done(index)
                    ready.extend(graph.get_ready())
            if self._run.failure is not None:
                raise self._run.failure

    def _root_of(self, index: int) -> int:
        """Follow `deletedWith` to the resource to call."""
        seen = {index}
        while target := self._nodes[index].resource.deleted_with:
            others = [other for other in self._by_urn.get(target, ()) if other not in seen]
            if not others:
                break
            index = others[0]
            seen.add(index)
        return index

    def _graph(self) -> TopologicalSorter[int]:
        """Return the roots in the order of deletion: each before those it needs."""
        graph = TopologicalSorter[int](dict.fromkeys(self._root, ()))
        for index, root in enumerate(self._root):
            node = self._nodes[index]
            needed = self._reached(index)
            if root != index or not node.resource.managed:
                # No call of its own deletes it: it only keeps what its entry in the state names from going first.
                needed = {other for other in needed if not self._nodes[other].resource.managed}
            if node.unsure:  # its record must end before another resource of this URN is created
                needed |= {other for other in self._by_urn[node.resource.urn] if self._root[other] == other}
            for other in needed - {root}:
                graph.add(other, root)
        with suppress(CycleError):  # of a foreign deployment: what is not in the cycle goes
            graph.prepare()
        return graph

    def _reached(self, index: int) -> set[int]:
        """Return the roots of what a resource needs, also by way of components and providers."""
        if index not in self._reach:
            found = self._reach[index] = set[int]()
            for other in {other for urn in self._nodes[index].resource.needs for other in self._by_urn[urn]} - {index}:
                found.add(self._root[other])
                if self._root[other] == other and not self._nodes[other].resource.managed:
                    found |= self._reached(other)
        return self._reach[index]

    def _delete(self, index: int) -> None:
        node, members = self._nodes[index], self._members[index]
        resource, ledger = node.resource, self._run.ledger
        if resource.managed and not resource.pending_replacement:
            with self._run.working(resource, "delete"):
                if not node.unsure:
                    ledger.begin("deleting", [resource, *members])
                self._call(node)
        else:
            self._run.check()
            self._run.report(resource, "delete")
        for member in members:
            self._run.report(member, "delete")
        gone = [resource, *members]
        keys = [each.key for each in gone]
        if self._keep:
            ledger.commit(put=[replace(each, pending_replacement=True) for each in gone], end=keys)
        else:
            ledger.commit(drop=keys[1:] if node.unsure else keys, end=keys)

    def _call(self, node: Doomed) -> None:
        resource = node.resource
        handler = self._run.handler(resource)
        (inputs, outputs), id_ = resource.plain, resource.id
        if node.unsure:
            # Creating it again is idempotent, and returns the id to delete.
            try:
                id_, outputs = handler.recreate(inputs)
            except Exception as error:
                if may_be_made(error) or not isinstance(error, LocalError):
                    raise
                return  # it can't be created, so it does not exist
        handler.delete(id_, inputs, outputs)
