from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from kryonix.engines.errors import WrongState
from kryonix.registry.desired_states import DesiredState
from kryonix.tenants.transitions import Transition, check_transition, generation_in_use

STATE = DesiredState(cliente_id="acme", modules=("crm",), plan="basic", status="active", cell="default")
ALLOWED = {
    "active": {"change", "suspend", "resume", "rotate", "offboard"},
    "suspended": {"change", "suspend", "resume", "rotate", "offboard"},
    "offboarding": {"resume", "offboard", "remove"},
    "removed": {"remove"},
}


@pytest.mark.parametrize("status", ALLOWED)
@pytest.mark.parametrize("operation", get_args(Transition))
def test_each_operation_is_allowed_in_its_states_only(status: str, operation: Transition) -> None:
    state = replace(STATE, status=status)  # type: ignore[arg-type]
    if operation in ALLOWED[status]:
        check_transition(state, operation)
    else:
        with pytest.raises(WrongState, match=r"'acme' is .* and can't be .*\. Allowed states: ") as caught:
            check_transition(state, operation)
        assert caught.value.status == status


def test_one_allowed_step_is_enough_for_an_operation_of_several() -> None:
    check_transition(STATE, "offboard", "remove")


@pytest.mark.parametrize(("current", "applied", "used"), [(1, 0, 1), (1, 1, 1), (2, 1, 1), (2, 2, 2)])
def test_the_generation_in_use_is_the_last_handed_out(current: int, applied: int, used: int) -> None:
    state = replace(STATE, credentials_generation=current, applied_generation=applied)
    assert generation_in_use(state) == used
