from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import get_args

import pytest

from kryonix.registry.desired_states import DesiredState
from kryonix.tenants.errors import TenantExists, WrongState
from kryonix.tenants.transitions import Transition, check_transition, generation_in_use, unfinished_creation

STATE = DesiredState(cliente_id="acme", modules=("crm",), plan="basic", status="active", cell="default")
ALLOWED = {
    "active": {"change", "suspend", "resume", "rotate", "converge", "offboard"},
    "suspended": {"change", "suspend", "resume", "rotate", "converge", "offboard"},
    "offboarding": {"resume", "converge", "offboard", "remove"},
    "removed": {"remove"},
}


@pytest.mark.parametrize("status", ALLOWED)
@pytest.mark.parametrize("operation", get_args(Transition))
def test_each_operation_is_allowed_in_its_states_only(status: str, operation: Transition) -> None:
    state = replace(STATE, status=status)  # type: ignore[arg-type]
    if operation in ALLOWED[status]:
        check_transition(state, operation)
    else:
        said = rf"'acme' is {status} and can't be .*\. Allowed states: .*\. [A-Z]"
        with pytest.raises(WrongState, match=said):
            check_transition(state, operation)


def test_one_allowed_step_is_enough_for_an_operation_of_several() -> None:
    check_transition(STATE, "offboard", "remove")


@pytest.mark.parametrize(("current", "applied", "used"), [(1, 0, 1), (1, 1, 1), (2, 1, 1), (2, 2, 2)])
def test_the_generation_in_use_is_the_last_handed_out(current: int, applied: int, used: int) -> None:
    state = replace(STATE, credentials_generation=current, applied_generation=applied)
    assert generation_in_use(state) == used


def test_only_a_creation_that_has_not_finished_continues() -> None:
    removed = replace(STATE, status="removed")
    assert unfinished_creation("acme", STATE, registered=True) is STATE
    assert unfinished_creation("acme", removed, registered=False) is None
    assert unfinished_creation("acme", None, registered=False) is None
    with pytest.raises(TenantExists, match="already exists"):
        unfinished_creation("acme", replace(STATE, applied_generation=1), registered=True)
    with pytest.raises(TenantExists, match="part of another stack"):
        unfinished_creation("acme", None, registered=True)
    with pytest.raises(WrongState, match="the removal of the tenant 'acme' is in progress"):
        unfinished_creation("acme", replace(removed, remove_after=datetime.now(UTC)), registered=False)
