"""A rollout over fake tenants: changed tenants, skipped tenants, and the journal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from kryonix.engines.engine import ignore
from kryonix.engines.errors import EngineFailed
from kryonix.engines.events import OnEvent, Summary
from kryonix.fleet.rollout import RolloutRun, take_part
from kryonix.fleet.waves import Canary, FailureBudget, plan_waves
from kryonix.registry.desired_states import DesiredState, DesiredStatus
from kryonix.registry.rollouts import RolloutStatus, RolloutTenant

DONE = Summary(changes={"update": 1, "same": 80}, steps=())


@dataclass
class Fleet:
    """Tenants by id. One that fails raises its errors, one at each attempt, and then no more."""

    failures: dict[str, list[Exception]] = field(default_factory=dict)
    statuses: dict[str, DesiredStatus] = field(default_factory=dict)
    while_converging: Callable[[str], None] = lambda tenant: None
    touched: list[str] = field(default_factory=list)
    most_at_once: int = 0
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def state(self, tenant_id: str) -> DesiredState:
        return state(tenant_id, self.statuses.get(tenant_id, "active"))

    def converge(self, tenant_id: str, on_event: OnEvent = ignore, *, thorough: bool = True) -> Summary:
        with self._lock:
            self.touched.append(tenant_id)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            self.while_converging(tenant_id)
            if errors := self.failures.get(tenant_id):
                raise errors.pop(0)
            return DONE
        finally:
            with self._lock:
                self._now -= 1


@dataclass
class Notes:
    """A journal in memory, that may be lost after so many notes."""

    lost_after: int = 10**9
    notes: list[RolloutTenant] = field(default_factory=list)
    ended: RolloutStatus | None = None

    def note(self, tenant: RolloutTenant) -> None:
        if len(self.notes) >= self.lost_after:
            raise ConnectionError("the registry is gone")
        self.notes.append(tenant)

    def end(self, status: RolloutStatus) -> None:
        self.ended = status


def state(tenant: str, status: DesiredStatus = "active") -> DesiredState:
    return DesiredState(cliente_id=tenant, modules=("crm",), plan="basic", status=status)


def planned(count: int, canaries: int = 1, size: int = 2) -> list[RolloutTenant]:
    waves = plan_waves([f"t{number}" for number in range(count)], Canary(canaries), size)
    return [RolloutTenant(cliente_id=name, wave=index) for index, wave in enumerate(waves) for name in wave]


def broken(*tenants: str) -> dict[str, list[Exception]]:
    return {tenant: [EngineFailed("the policy is refused", 1)] for tenant in tenants}


def run(
    fleet: Fleet, tenants: list[RolloutTenant], budget: str = "0", concurrency: int = 1, notes: Notes | None = None
) -> tuple[RolloutStatus, Mapping[str, RolloutTenant]]:
    notes = notes or Notes()
    rollout = RolloutRun(
        fleet, notes, concurrency=concurrency, budget=FailureBudget.parse(budget), pause=lambda seconds: None
    )
    status, ended = rollout.run(tenants)
    assert notes.ended == status
    return status, {tenant.cliente_id: tenant for tenant in ended}


def test_tenants_are_converged_wave_by_wave() -> None:
    fleet = Fleet()
    status, ended = run(fleet, planned(6))
    assert status == "done"
    assert fleet.touched == ["t0", "t1", "t2", "t3", "t4", "t5"]
    assert {tenant.status for tenant in ended.values()} == {"done"}
    assert ended["t3"].changes == DONE.changes


def test_a_failed_canary_stops_the_rollout_whatever_the_budget() -> None:
    fleet = Fleet(broken("t0"))
    status, ended = run(fleet, planned(6), budget="100%", concurrency=4)
    assert status == "stopped"
    assert fleet.touched == ["t0"]
    assert ended["t0"].error == "the policy is refused"
    assert {tenant.status for name, tenant in ended.items() if name != "t0"} == {"pending"}


def test_failures_within_the_budget_are_reported_and_do_not_stop_it() -> None:
    fleet = Fleet(broken("t2", "t4"))
    status, ended = run(fleet, planned(6), budget="2")
    assert status == "incomplete"
    assert sorted(name for name, tenant in ended.items() if tenant.status == "failed") == ["t2", "t4"]
    assert len(fleet.touched) == 6


def test_the_failure_past_the_budget_stops_the_wave() -> None:
    fleet = Fleet(broken("t1", "t3"))
    status, ended = run(fleet, planned(9, size=8), budget="1")
    assert status == "stopped"
    assert fleet.touched == ["t0", "t1", "t2", "t3"]
    assert ended["t4"].status == "pending"


def test_tenants_in_progress_are_finished_after_a_stop() -> None:
    begun = threading.Event()

    def converge(tenant: str) -> None:
        if tenant == "t1":
            begun.wait(5)
        elif tenant == "t2":
            begun.set()
            time.sleep(0.1)

    status, ended = run(Fleet(broken("t1"), while_converging=converge), planned(5, size=4), concurrency=2)
    assert status == "stopped"
    assert ended["t2"].status == "done"


def test_concurrency_is_limited() -> None:
    fleet = Fleet(while_converging=lambda tenant: time.sleep(0.01))
    run(fleet, planned(30, canaries=0, size=30), concurrency=3)
    assert fleet.most_at_once == 3


def test_a_service_that_does_not_answer_is_tried_three_times() -> None:
    away: list[Exception] = [EngineFailed("the broker does not answer", 3) for _ in range(2)]
    fleet = Fleet({"t0": away})
    status, _ = run(fleet, planned(1))
    assert status == "done"
    assert fleet.touched == ["t0"] * 3
    gone: list[Exception] = [EngineFailed("the broker does not answer", 3) for _ in range(3)]
    assert run(Fleet({"t0": gone}), planned(1))[0] == "stopped"


def test_an_unexpected_error_is_a_named_failure_of_its_tenant() -> None:
    _, ended = run(Fleet({"t0": [KeyError("plan")]}), planned(1))
    assert ended["t0"].error == "KeyError: 'plan'"


def test_a_tenant_removed_meanwhile_is_skipped() -> None:
    fleet = Fleet(statuses={"t1": "removed"})
    status, ended = run(fleet, planned(3))
    assert status == "done"
    assert "t1" not in fleet.touched
    assert (ended["t1"].status, ended["t1"].error) == ("skipped", "is removed now")


def test_completed_tenants_are_not_repeated() -> None:
    first, *rest = planned(3)
    fleet = Fleet()
    run(fleet, [RolloutTenant(cliente_id=first.cliente_id, wave=0, status="done"), *rest])
    assert fleet.touched == ["t1", "t2"]


def test_unchanged_tenants_are_not_run_and_count_in_no_budget() -> None:
    left_out = [RolloutTenant(cliente_id=f"u{number}", wave=None, status="unchanged") for number in range(8)]
    fleet = Fleet(broken("t1"))
    status, ended = run(fleet, [*planned(2), *left_out], budget="10%")
    assert (status, fleet.touched) == ("stopped", ["t0", "t1"])
    assert ended["u0"] == left_out[0]
    assert run(Fleet(), left_out)[0] == "done"


def test_a_tenant_is_recorded_before_it_is_changed() -> None:
    notes = Notes()

    def noted(tenant: str) -> None:
        assert (notes.notes[-1].cliente_id, notes.notes[-1].status) == (tenant, "running")

    assert run(Fleet(while_converging=noted), planned(3), notes=notes)[0] == "done"


def test_no_tenant_starts_without_a_writable_journal() -> None:
    fleet, notes = Fleet(), Notes(lost_after=3)
    with pytest.raises(ConnectionError):
        run(fleet, planned(6), notes=notes)
    assert fleet.touched == ["t0", "t1"]
    assert notes.ended is None


def test_leaving_and_removed_tenants_are_not_rolled_out() -> None:
    rows = [state("aaa"), state("bbb", "suspended"), state("ccc", "offboarding"), state("ddd", "removed")]
    assert [row.cliente_id for row in take_part(rows)] == ["aaa", "bbb"]
