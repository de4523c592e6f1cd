"""Deletes resources: whatever needs another one first, in parallel where independent.

A resource that is deleted *with* another (`deletedWith`) gets no call of its own: it goes when that one has gone, in
the same record of the journal.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

from kryonix.engines.local import values
from kryonix.engines.local.errors import ApplyFailed, LocalError
from kryonix.engines.local.recovery import may_be_made
from kryonix.engines.local.resource import Resource
from kryonix.engines.local.run import Run

__all__ = ["Deletion", "Doomed", "refuse_protected"]


@dataclass(frozen=True, slots=True)
class Doomed:
    """A resource to delete. `unsure`: its creation was cut off, and it may or may not be there."""

    resource: Resource
    unsure: bool = False


def refuse_protected(resources: Iterable[Resource]) -> None:
    """Raises `ApplyFailed` naming every protected resource among those to be deleted."""
    protected = [f"{r.type} '{r.name}'" for r in resources if r.protect and not r.delete]
    if protected:
        raise ApplyFailed(
            f"Protected against deletion: {', '.join(protected)}. Nothing was deleted. To delete it, set "
            "protect=False in the program, run `up`, and then remove it."
        )


class Deletion:
    """One set of resources to delete. With `keep` they stay in state, as ones to be created again."""

    def __init__(self, run: Run, doomed: Sequence[Doomed], *, keep: bool = False) -> None:
        self._run = run
        self._keep = keep
        self._nodes = list(doomed)
        self._by_urn: dict[str, list[int]] = defaultdict(list)
        for index, node in enumerate(self._nodes):
            self._by_urn[node.resource.urn].append(index)
        self._root = [self._root_of(index) for index in range(len(self._nodes))]
        self._members: dict[int, list[Resource]] = defaultdict(list)
        for index, root in enumerate(self._root):
            if index != root:
                self._members[root].append(self._nodes[index].resource)

    def execute(self) -> None:
        """Delete all. At a failure nothing more is started, what is under way ends, and the failure is raised."""
        try:
            self._execute()
        except BaseException as error:
            self._run.fail(error)
            raise

    def _execute(self) -> None:
        waiting, before = self._graph()
        ready = [index for index, count in waiting.items() if count == 0]
        running: dict[Future[None], int] = {}
        with ThreadPoolExecutor(self._run.parallel, thread_name_prefix="delete") as pool:
            while ready or running:
                if not self._run.stopped:
                    running.update({pool.submit(self._delete, index): index for index in ready})
                ready = []
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    index = running.pop(future)
                    if error := future.exception():
                        self._run.fail(error)
                        continue
                    for other in before[index]:
                        waiting[other] -= 1
                        if waiting[other] == 0:
                            ready.append(other)
        if self._run.failure is not None:
            raise self._run.failure

    def _root_of(self, index: int) -> int:
        """Follow `deletedWith` to the one that is really deleted."""
        seen = {index}
        while True:
            target = self._nodes[index].resource.deleted_with
            others = [other for other in self._by_urn.get(target, ()) if other not in seen]
            if not target or not others:
                return index
            index = others[0]
            seen.add(index)

    def _graph(self) -> tuple[dict[int, int], dict[int, list[int]]]:
        """How many others each root waits for, and which wait for it."""
        waiting = dict.fromkeys(self._root, 0)
        before: dict[int, list[int]] = defaultdict(list)
        for index in waiting:
            needed = {self._root[other] for urn in self._nodes[index].resource.needs for other in self._by_urn[urn]}
            if self._nodes[index].unsure:  # its note must be gone before that of another with the same URN is made
                needed |= {other for other in self._by_urn[self._nodes[index].resource.urn] if other in waiting}
            for root in needed - {index}:
                waiting[root] += 1
                before[index].append(root)
        for index, parent in self._homes():
            waiting[parent] += 1
            before[index].append(parent)
        return waiting, before

    def _homes(self) -> set[tuple[int, int]]:
        """Pairs of a root that takes along a component's children, and that component, which goes after them."""
        return {
            (self._root[index], parent)
            for index, node in enumerate(self._nodes)
            if index != self._root[index]
            for parent in self._by_urn[node.resource.parent]
            if self._waits_for_nothing(parent)
        }

    def _waits_for_nothing(self, index: int) -> bool:
        """Whether it is a component that needs but its own parent, so that to let it wait can't close a circle."""
        resource = self._nodes[index].resource
        return self._root[index] == index and not resource.custom and resource.needs <= {resource.parent}

    def _delete(self, index: int) -> None:
        node, members = self._nodes[index], self._members[index]
        resource = node.resource
        if resource.managed and not resource.pending_replacement and not resource.retain_on_delete:
            with self._run.working(resource, "delete"):
                if not node.unsure:
                    self._run.ledger.begin("deleting", [resource, *members])
                self._call(node)
        else:
            self._run.check()
            self._run.tell(resource, "delete")
        gone = [resource, *members]
        for member in members:
            self._run.tell(member, "delete")
        keys = [each.key for each in gone]
        if self._keep:
            self._run.ledger.commit(put=[replace(each, pending_replacement=True) for each in gone], end=keys)
        elif node.unsure:
            self._run.ledger.commit(drop=keys[1:], end=keys)
        else:
            self._run.ledger.commit(drop=keys, end=keys)

    def _call(self, node: Doomed) -> None:
        resource = node.resource
        handler = self._run.providers.handler(resource)
        inputs, outputs, id_ = values.plain(resource.inputs), values.plain(resource.outputs), resource.id
        if node.unsure:
            # Creating is idempotent: done again it tells the id of what may be there, which can then be deleted.
            try:
                id_, outputs = handler.recreate(inputs)
            except Exception as error:
                if may_be_made(error) or not isinstance(error, LocalError):
                    raise
                return  # it can't be created, so it is not there
        handler.delete(id_, inputs, outputs)
