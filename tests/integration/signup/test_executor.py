"""The executor with the tenants' lifecycle on a real registry, and an engine in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from kryonix.engines.errors import EngineFailed
from kryonix.signup import operations
from kryonix.signup.database import Database
from kryonix.signup.executor import Executor, RetryLater
from kryonix.signup.intake import Accepted, Intake
from kryonix.signup.keys import authenticate
from kryonix.signup.operations import Operation
from kryonix.signup.sealing import open_sealed
from kryonix.tenants.lifecycle import TenantLifecycle
from kryonix.topology.catalog import default_catalog
from kryonix.topology.cells import Cell, Cells
from tests.integration.signup.conftest import WRITER, Registry
from tests.support.fake_engine import FakeEngine

CELLS = Cells(cells={"main": Cell(platform="organization/kryonix/none")})


@dataclass
class Signup:
    """The signup service's parts without HTTP or worker processes."""

    registry: Registry
    database: Database
    engine: FakeEngine

    def create(self) -> Accepted:
        with self.database.transaction() as connection:
            caller = authenticate(connection, self.registry.key("admin"))
        request = {"id": "acme", "modules": ["crm"], "plan": "basic"}
        return Intake(self.database, default_catalog(), CELLS).accept("create", "acme", request, caller)

    def run(self, accepted: Accepted) -> Operation:
        lifecycle = TenantLifecycle(self.registry.dsn(WRITER), self.engine, CELLS, default_catalog())
        Executor(self.database, lifecycle).run(accepted.operation.id)
        return self.stored(accepted)

    def stored(self, accepted: Accepted) -> Operation:
        with self.database.transaction() as connection:
            return operations.fetch(connection, accepted.operation.id)


@pytest.fixture
def signup(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Iterator[Signup]:
    with Database(registry.dsn(), size=2) as database:
        yield Signup(registry, database, FakeEngine.installed(monkeypatch))


def test_a_creation_ends_with_sealed_credentials(signup: Signup) -> None:
    accepted = signup.create()
    operation = signup.run(accepted)
    assert (operation.status, operation.attempts, operation.problem) == ("succeeded", 1, None)
    assert accepted.credentials_key is not None
    assert operation.sealed is not None
    opened = open_sealed(accepted.credentials_key, str(operation.id), operation.sealed)
    assert opened["username"] in signup.engine.broker.users
    assert signup.run(accepted) == operation
    (event,) = signup.registry.query("SELECT event FROM signup.outbox")
    assert event["event"] == "tenant.created"


def test_a_transient_failure_is_retried(signup: Signup) -> None:
    accepted = signup.create()
    signup.engine.fail(EngineFailed("the broker does not answer", 3))
    with pytest.raises(RetryLater):
        signup.run(accepted)
    waiting = signup.stored(accepted)
    assert waiting.status == "queued"
    assert waiting.problem is not None
    operation = signup.run(accepted)
    assert (operation.status, operation.attempts) == ("succeeded", 2)


def test_a_refusal_fails_with_its_problem(signup: Signup) -> None:
    accepted = signup.create()
    signup.engine.fail(EngineFailed("the program refused the tenant", 2))
    operation = signup.run(accepted)
    assert (operation.status, operation.attempts, operation.sealed) == ("failed", 1, None)
    assert operation.problem is not None
    assert "the program refused the tenant" in str(operation.problem)


def test_a_converge_counts_what_it_repaired(signup: Signup) -> None:
    signup.run(signup.create())
    with signup.database.transaction() as connection:
        caller = authenticate(connection, signup.registry.key("write"))
    accepted = Intake(signup.database, default_catalog(), CELLS).accept("converge", "acme", {}, caller)
    assert accepted.credentials_key is None
    operation = signup.run(accepted)
    assert (operation.status, operation.problem) == ("succeeded", None)
    assert operation.result is not None
    assert (operation.kind, list(operation.result)) == ("converge", ["changes"])
    (stored,) = signup.registry.query("SELECT kind FROM signup.operations ORDER BY created_at DESC LIMIT 1")
    assert stored["kind"] == "change", "an older worker leaves a change with an unknown field to a newer one"
    events = signup.registry.query("SELECT event FROM signup.outbox")
    assert [event["event"] for event in events] == ["tenant.created"]
