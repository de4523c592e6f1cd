"""The tenants' state machine on a real registry, with an engine and a broker in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from kryonix.engines.engine import StackSpec, ignore
from kryonix.engines.errors import EngineFailed
from kryonix.engines.events import OnEvent, Summary
from kryonix.errors import Failure
from kryonix.fleet.unchanged import Unchanged
from kryonix.registry.connection import connect
from kryonix.tenants.digests import Digests
from kryonix.tenants.errors import DoesNotFit, InvalidTenant, TenantExists, UnknownTenant, WouldLoseMessages, WrongState
from kryonix.tenants.lifecycle import TenantLifecycle
from kryonix.topology.catalog import default_catalog
from kryonix.topology.cells import Cell, Cells
from kryonix.topology.expansion import expand
from kryonix.topology.tenants import Tenant
from tests.conftest import ALL_MODULES
from tests.integration.signup.conftest import OWNER, WRITER, Registry, registry, server  # noqa: F401  fixtures
from tests.support.fake_engine import FakeEngine

CELLS = Cells(cells={"main": Cell(platform="organization/kryonix/none")})
ACME = Tenant(id="acme", modules=("crm",), plan="basic")
BOTH = ("crm", "financeiro")
DIED = EngineFailed("the engine died")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    return FakeEngine.installed(monkeypatch)


@pytest.fixture
def lifecycle(registry: Registry, engine: FakeEngine) -> TenantLifecycle:  # noqa: F811
    return TenantLifecycle(registry.dsn(WRITER), engine, CELLS, default_catalog())


def queues_of(*modules: str) -> set[str]:
    tenant = Tenant(id="acme", modules=modules, plan="pro")
    return {queue.name for queue in expand(tenant, default_catalog()).queues}


def test_every_operation_runs_through_a_tenants_life(lifecycle: TenantLifecycle, engine: FakeEngine) -> None:
    made = lifecycle.create(ACME)
    assert made.username in engine.broker.users
    lifecycle.change("acme", modules=BOTH, plan="pro")
    lifecycle.suspend("acme")
    assert made.username in engine.broker.disconnected
    lifecycle.resume("acme")
    assert lifecycle.rotate("acme").username != made.username
    lifecycle.offboard("acme")
    assert len(lifecycle.final_exports("acme")) == 1
    with pytest.raises(WrongState, match="can be resumed until"):
        lifecycle.remove("acme")
    lifecycle.remove("acme", force=True)
    lifecycle.remove("acme")
    assert (lifecycle.state("acme").stage, engine.broker.vhosts, engine.broker.users) == ("removed", {}, set())
    assert lifecycle.create(ACME).username


def test_refusals_change_nothing(lifecycle: TenantLifecycle, engine: FakeEngine) -> None:
    with pytest.raises(UnknownTenant):
        lifecycle.suspend("acme")
    with pytest.raises(InvalidTenant, match="unknown module 'crn'"):
        lifecycle.create(ACME.model_copy(update={"modules": ("crn",)}))
    lifecycle.create(ACME)
    state, calls = lifecycle.state("acme"), list(engine.calls)
    with pytest.raises(TenantExists):
        lifecycle.create(ACME)
    with pytest.raises(WrongState, match="can't be removed"):
        lifecycle.remove("acme", force=True)
    with pytest.raises(InvalidTenant, match="unknown plan"):
        lifecycle.change("acme", plan="none")
    with pytest.raises(DoesNotFit):
        lifecycle.change("acme", modules=tuple(default_catalog().modules))
    with pytest.raises(WrongState, match="of generation 1, not 7"):
        lifecycle.rotate("acme", from_generation=7)
    assert (lifecycle.state("acme"), engine.calls) == (state, calls)


@pytest.mark.parametrize("after", [False, True], ids=["before its work", "after its work"])
def test_an_interrupted_creation_continues(lifecycle: TenantLifecycle, engine: FakeEngine, after: bool) -> None:
    engine.fail(DIED, after=after)
    with pytest.raises(EngineFailed):
        lifecycle.create(ACME)
    with pytest.raises(TenantExists):
        lifecycle.create(ACME.model_copy(update={"plan": "pro"}))
    made = lifecycle.create(ACME)
    assert lifecycle.create(ACME, again=True) == made
    assert lifecycle.state("acme").converged


@pytest.mark.parametrize("operation", ["suspend", "resume", "offboard"])
def test_an_interrupted_operation_is_repeated(lifecycle: TenantLifecycle, engine: FakeEngine, operation: str) -> None:
    lifecycle.create(ACME)
    if operation == "resume":
        lifecycle.suspend("acme")
    engine.fail(DIED)
    with pytest.raises(EngineFailed):
        getattr(lifecycle, operation)("acme")
    assert not lifecycle.state("acme").converged
    getattr(lifecycle, operation)("acme")
    assert lifecycle.state("acme").converged


def test_a_change_that_loses_messages_is_refused(lifecycle: TenantLifecycle, engine: FakeEngine) -> None:
    lifecycle.create(Tenant(id="acme", modules=BOTH, plan="pro"))
    lost = min(queues_of(*BOTH) - queues_of("crm"))
    engine.broker.held[lost] = 3
    with pytest.raises(WouldLoseMessages, match="3 messages in "):
        lifecycle.change("acme", modules=("crm",))
    assert lifecycle.state("acme").modules == BOTH
    lifecycle.change("acme", modules=("crm",), allow_delete=[lost])
    assert lost not in engine.broker.vhosts["/cliente_acme"]


def test_a_dry_run_names_the_messages_and_changes_nothing(lifecycle: TenantLifecycle, engine: FakeEngine) -> None:
    lifecycle.create(Tenant(id="acme", modules=BOTH, plan="pro"))
    before, calls = lifecycle.state("acme"), list(engine.calls)
    assert lifecycle.preview_change("acme", modules=("crm",)) == (Summary({}, ()), None)
    lost = min(queues_of(*BOTH) - queues_of("crm"))
    engine.broker.held[lost] = 3
    summary, refusal = lifecycle.preview_change("acme", modules=("crm",))
    assert (summary, refusal and refusal.queues) == (Summary({}, ()), {lost: 3})
    assert lifecycle.preview_change("acme", modules=("crm",), allow_delete=[lost])[1] is None
    with pytest.raises(DoesNotFit):
        lifecycle.preview_change("acme", plan="basic", modules=ALL_MODULES)
    assert (lifecycle.state("acme"), engine.calls) == (before, calls)


def test_a_dry_run_of_a_protected_tenant_compares_topologies(
    lifecycle: TenantLifecycle, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lifecycle.create(Tenant(id="acme", modules=BOTH, plan="pro"))

    def preview(*_: object) -> Summary:
        raise EngineFailed("protected", failure=Failure(kind="protected"))

    monkeypatch.setattr(engine, "preview", preview)
    summary, refusal = lifecycle.preview_change("acme", modules=("crm",))
    deleted = {step.name for step in summary.steps if step.op == "delete" and step.type.endswith(":Queue")}
    assert (deleted, refusal) == (queues_of(*BOTH) - queues_of("crm"), None)
    assert "create" not in summary.changes


@pytest.mark.parametrize("after", [False, True], ids=["before its work", "after its work"])
def test_credentials_are_kept_if_a_rotation_fails(lifecycle: TenantLifecycle, engine: FakeEngine, after: bool) -> None:
    made = lifecycle.create(ACME)
    engine.fail(DIED, after=after)
    if not after:
        engine.fail(DIED)  # the new users are missing, so the stack runs a second time
    with pytest.raises(EngineFailed):
        lifecycle.rotate("acme")
    state = lifecycle.state("acme")
    assert (state.credentials_generation, state.retiring_until) == (1, None)
    fresh = lifecycle.rotate("acme", from_generation=1)
    assert lifecycle.rotate("acme", from_generation=1) == fresh
    assert {made.username, fresh.username} <= engine.broker.users


def test_settling_ends_an_overlap(lifecycle: TenantLifecycle, engine: FakeEngine) -> None:
    made = lifecycle.create(ACME)
    lifecycle.rotate("acme", overlap=timedelta(milliseconds=1))
    assert lifecycle.due() == ["acme"]
    engine.fail(DIED)
    with pytest.raises(EngineFailed):
        lifecycle.settle("acme")
    assert lifecycle.due() == ["acme"]
    lifecycle.settle("acme")
    assert (lifecycle.due(), made.username in engine.broker.users) == ([], False)


@pytest.mark.parametrize("finish", ["remove", "settle", "converge"])
def test_an_interrupted_removal_can_only_be_completed(
    lifecycle: TenantLifecycle, engine: FakeEngine, finish: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lifecycle.create(ACME)
    lifecycle.offboard("acme")
    engine.fail(DIED, after=True)  # lifting the protection: the row is not marked yet
    with pytest.raises(EngineFailed):
        lifecycle.remove("acme", force=True)
    assert lifecycle.state("acme").stage == "offboarding"
    with monkeypatch.context() as patch:
        patch.setattr(engine, "destroy", _dies)
        with pytest.raises(EngineFailed):
            lifecycle.remove("acme", force=True)
    assert lifecycle.state("acme").stage == "removing"
    with pytest.raises(WrongState, match="is in progress"):
        lifecycle.create(ACME)
    with pytest.raises(WrongState, match="is removing and can't be resumed"):
        lifecycle.resume("acme")
    getattr(lifecycle, finish)("acme")
    assert (lifecycle.state("acme").stage, engine.broker.vhosts) == ("removed", {})


def _dies(*_: object) -> None:
    raise DIED


@pytest.mark.parametrize("status", ["active", "suspended", "offboarding"])
def test_an_immediate_removal_leaves_nothing(
    lifecycle: TenantLifecycle, engine: FakeEngine, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kryonix.tenants.lifecycle._COUNTS_AGE_S", 0)
    lifecycle.create(ACME)
    {"active": lifecycle.resume, "suspended": lifecycle.suspend, "offboarding": lifecycle.offboard}[status]("acme")
    engine.broker.held[min(queues_of("crm"))] = 3
    assert lifecycle.remove_now("acme", accept_loss=True) == 3
    assert (lifecycle.state("acme").stage, engine.broker.vhosts, engine.broker.users) == ("removed", {}, set())
    assert len(lifecycle.final_exports("acme")) == 1
    assert lifecycle.remove_now("acme") == 0


class Killed(BaseException):
    """The end of the process: nothing handles it."""


@pytest.mark.parametrize("killed", [False, True], ids=["one run", "killed in between"])
@pytest.mark.parametrize("status", ["active", "suspended", "offboarding"])
def test_a_refused_immediate_removal_changes_nothing(
    lifecycle: TenantLifecycle, engine: FakeEngine, status: str, killed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lifecycle.create(ACME)
    {"active": lifecycle.resume, "suspended": lifecycle.suspend, "offboarding": lifecycle.offboard}[status]("acme")
    before, exports = lifecycle.state("acme"), lifecycle.final_exports("acme")
    stack = StackSpec(name="tenant-acme")
    made = engine.outputs(stack)

    def arrive(_: float) -> None:
        """A message that the broker had not counted yet."""
        assert engine.outputs(stack)["tenants"]["acme"]["status"] == "suspended"
        engine.broker.held[min(queues_of("crm"))] = 3
        if killed:
            raise Killed

    monkeypatch.setattr("kryonix.tenants.lifecycle.time.sleep", arrive)
    if killed:
        with pytest.raises(Killed):
            lifecycle.remove_now("acme")
        assert not lifecycle.state("acme").converged
    with pytest.raises(WouldLoseMessages, match="3 message"):
        lifecycle.remove_now("acme")
    after = lifecycle.state("acme")
    assert after.converged
    assert replace(after, applied_at=None) == replace(before, applied_at=None)
    assert engine.outputs(stack) == made
    assert lifecycle.final_exports("acme") == exports


def test_converging_ends_the_suspension_of_a_killed_removal(
    lifecycle: TenantLifecycle, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(_: float) -> None:
        raise Killed

    lifecycle.create(ACME)
    made = engine.outputs(StackSpec(name="tenant-acme"))
    monkeypatch.setattr("kryonix.tenants.lifecycle.time.sleep", die)
    with pytest.raises(Killed):
        lifecycle.remove_now("acme")
    lifecycle.converge("acme")
    assert engine.outputs(StackSpec(name="tenant-acme")) == made
    assert lifecycle.state("acme").converged


def test_a_failed_immediate_removal_gives_access_back(lifecycle: TenantLifecycle, engine: FakeEngine) -> None:
    lifecycle.create(ACME)
    made = engine.outputs(StackSpec(name="tenant-acme"))
    engine.fail(DIED, after=True)
    with pytest.raises(EngineFailed):
        lifecycle.remove_now("acme")
    assert engine.outputs(StackSpec(name="tenant-acme")) == made
    assert lifecycle.state("acme").status == "active"


def test_converging_restores_a_lost_vhost(lifecycle: TenantLifecycle, engine: FakeEngine) -> None:
    lifecycle.create(ACME)
    engine.broker.vhosts.clear()
    lifecycle.converge("acme")
    assert "/cliente_acme" in engine.broker.vhosts


@pytest.fixture
def unchanged(registry: Registry, lifecycle: TenantLifecycle, engine: FakeEngine) -> Callable[[], bool]:  # noqa: F811
    """Whether a rollout now would leave the tenant out."""
    found = Unchanged(registry.dsn(WRITER), engine, CELLS, default_catalog())
    return lambda: "acme" in found.find(lifecycle.states())


def test_every_operation_that_succeeds_leaves_nothing_to_roll_out(
    lifecycle: TenantLifecycle, unchanged: Callable[[], bool]
) -> None:
    lifecycle.create(ACME)
    assert unchanged()
    operations: list[Callable[[], object]] = [
        partial(lifecycle.change, "acme", modules=BOTH, plan="pro"),
        partial(lifecycle.suspend, "acme"),
        partial(lifecycle.resume, "acme"),
        partial(lifecycle.rotate, "acme", overlap=timedelta(0)),
        partial(lifecycle.converge, "acme"),
    ]
    for operation in operations:
        operation()
        assert unchanged(), operation
    lifecycle.offboard("acme")
    assert not unchanged(), "a rollout does not touch it, and says so"
    lifecycle.resume("acme")
    assert unchanged()


@pytest.mark.parametrize("after", [False, True], ids=["before its work", "after its work"])
def test_a_failed_run_is_rolled_out_again_though_all_is_as_it_was(
    lifecycle: TenantLifecycle, engine: FakeEngine, unchanged: Callable[[], bool], after: bool
) -> None:
    lifecycle.create(ACME)
    for _ in ("refresh", "up"):  # a refresh that fails is followed by a run
        engine.fail(DIED, after=after)
    with pytest.raises(EngineFailed):
        lifecycle.converge("acme")
    assert not unchanged()
    lifecycle.converge("acme")
    assert unchanged()


def test_a_killed_run_is_rolled_out_again(
    lifecycle: TenantLifecycle, engine: FakeEngine, unchanged: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    lifecycle.create(ACME)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Digests, "digest", killed)  # between the run and its note
    with pytest.raises(KeyboardInterrupt):
        lifecycle.converge("acme")
    monkeypatch.undo()
    monkeypatch.setattr("kryonix.tenants.stacks.Broker.of", lambda outputs: outputs["broker"])
    assert not unchanged()


def test_a_program_that_changes_during_a_run_is_not_taken_for_applied(
    lifecycle: TenantLifecycle, engine: FakeEngine, unchanged: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    up = engine.up

    def slow(stack: StackSpec, on_event: OnEvent = ignore) -> Summary:
        done = up(stack)
        engine.program = "another program"
        return done

    monkeypatch.setattr(engine, "up", slow)
    lifecycle.create(ACME)
    assert not unchanged()
    engine.program = "a program"
    assert not unchanged(), "nobody knows which one has run"


@pytest.mark.parametrize(
    "change",
    [
        lambda engine, its: engine.touch("tenant-acme"),
        lambda engine, its: engine.platform.update(amqp_host="elsewhere"),
        lambda engine, its: setattr(engine, "program", "another"),
        lambda engine, its: engine.broker.vhosts.clear(),
        lambda engine, its: engine.broker.users.clear(),
        lambda engine, its: engine.broker.noted.update({"kryonix-kept-out/cliente_acme": {}}),
        lambda engine, its: its.query("UPDATE tenants.desired_states SET plan = 'pro'"),
    ],
    ids=["state", "platform", "program", "lost vhost", "lost users", "cut off", "row"],
)
def test_a_change_from_outside_is_rolled_out(
    lifecycle: TenantLifecycle,
    engine: FakeEngine,
    registry: Registry,  # noqa: F811
    unchanged: Callable[[], bool],
    change: Callable[[FakeEngine, Registry], object],
) -> None:
    lifecycle.create(ACME)
    change(engine, registry)
    assert not unchanged()
    lifecycle.converge("acme")
    engine.broker.noted.clear()
    assert unchanged()


def test_reading_a_stack_keeps_it_unchanged_and_a_difference_does_not(
    lifecycle: TenantLifecycle,
    engine: FakeEngine,
    registry: Registry,  # noqa: F811
) -> None:
    found = Unchanged(registry.dsn(WRITER), engine, CELLS, default_catalog())
    lifecycle.create(ACME)
    applied = found.find(lifecycle.states())["acme"]
    engine.touch("tenant-acme")  # the Pulumi CLI writes the state of every refresh
    found.renew(lifecycle.state("acme"), applied)
    assert found.find(lifecycle.states()).keys() == {"acme"}
    found.renew(lifecycle.state("acme"), applied)
    assert found.find(lifecycle.states()).keys() == {"acme"}, "the note of an older reading is not taken"
    found.forget("acme")
    assert found.find(lifecycle.states()) == {}
    found.renew(lifecycle.state("acme"), applied)
    assert found.find(lifecycle.states()) == {}


def test_a_rollout_reads_a_stack_only_if_its_last_run_did_not_leave_it_so(
    lifecycle: TenantLifecycle,
    engine: FakeEngine,
    registry: Registry,  # noqa: F811
) -> None:
    lifecycle.create(ACME)

    def runs(*, thorough: bool = False) -> list[str]:
        engine.calls.clear()
        lifecycle.converge("acme", thorough=thorough)
        return list(engine.calls)

    engine.program = "another"
    assert runs() == ["up"]
    assert runs(thorough=True) == ["refresh", "up"]
    registry.query("UPDATE tenants.desired_states SET plan = 'pro', updated_at = clock_timestamp()")
    assert runs() == ["up"]
    Unchanged(registry.dsn(WRITER), engine, CELLS, default_catalog()).forget("acme")
    assert runs() == ["refresh", "up"], "drift was found"
    engine.touch("tenant-acme")
    assert runs() == ["refresh", "up"], "somebody else has run it"
    engine.fail(DIED)
    with pytest.raises(EngineFailed):
        runs()
    assert runs() == ["refresh", "up"], "nobody knows what the failed run has done"


def test_nothing_is_noted_in_a_registry_of_an_older_version(
    lifecycle: TenantLifecycle,
    registry: Registry,  # noqa: F811
    unchanged: Callable[[], bool],
) -> None:
    owner = registry.dsn(OWNER)
    with connect(owner) as connection:
        connection.execute("ALTER TABLE tenants.desired_states RENAME applied_digest TO later")
    try:
        lifecycle.create(ACME)
        lifecycle.converge("acme")
        assert not unchanged()
    finally:
        with connect(owner) as connection:
            connection.execute("ALTER TABLE tenants.desired_states RENAME later TO applied_digest")
