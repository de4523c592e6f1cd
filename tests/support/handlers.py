"""Registered resources in the form that the Pulumi engine gives a policy pack."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from unittest import mock

from pulumi.runtime.proto import analyzer_pb2

from kryonix.engines.local import LocalStack, values
from kryonix.engines.local.registrar import Registrar
from kryonix.engines.local.resource import Resource
from tests.support.project import Project

__all__ = ["Recording", "previewed"]


@dataclass(frozen=True, slots=True)
class Recording:
    """A registered resource and its result."""

    goal: Resource
    resource: Resource

    def request(self) -> analyzer_pb2.AnalyzeRequest:
        """Return the arguments of a resource policy: the inputs."""
        goal = self.goal
        properties = values.to_struct(goal.inputs)
        return analyzer_pb2.AnalyzeRequest(urn=goal.urn, type=goal.type, name=goal.name, properties=properties)

    def entry(self, *, early: bool = False) -> analyzer_pb2.AnalyzerResource:
        """What a policy of stacks is shown: the outputs, of which a provider that is not there yet knows none."""
        goal = self.goal
        unmade = early and goal.type.startswith("rabbitmq:")
        properties = values.to_struct({} if unmade else self.resource.outputs or goal.inputs)
        return analyzer_pb2.AnalyzerResource(
            urn=goal.urn, type=goal.type, name=goal.name, parent=goal.parent, properties=properties
        )


def previewed(project: Project) -> list[Recording]:
    """Run the project's program, unmodified, for a preview, and return everything it registers.

    The same tenants make the same; a run takes seconds and is kept, also for stacks of another name.
    """
    tenants = (project.folder / "tenants.yaml").read_text()
    if tenants not in _kept:
        with _recorded() as recordings:
            LocalStack(project.folder, project.stack).preview()
        _kept[tenants] = recordings
    return _kept[tenants]


_kept: Final[dict[str, list[Recording]]] = {}


@contextmanager
def _recorded() -> Iterator[list[Recording]]:
    recordings: list[Recording] = []
    register = Registrar.register

    def record(self: Registrar, draft: Resource, *more: Any) -> Resource:
        resource = register(self, draft, *more)
        recordings.append(Recording(draft, resource))
        return resource

    with mock.patch.object(Registrar, "register", record):
        yield recordings
