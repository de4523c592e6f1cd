"""The tenants' state machine: the states that allow an operation, for the lifecycle and the signup service."""

from __future__ import annotations

from typing import Final, Literal

from kryonix.engines.errors import WrongState
from kryonix.registry.desired_states import DesiredState

__all__ = ["Transition", "check_transition", "generation_in_use"]

Transition = Literal["change", "suspend", "resume", "rotate", "offboard", "remove"]

_ALLOWED: Final[dict[Transition, tuple[str, ...]]] = {
    "change": ("active", "suspended"),
    "suspend": ("active", "suspended"),
    "resume": ("active", "suspended", "offboarding"),
    "rotate": ("active", "suspended"),
    "offboard": ("active", "suspended", "offboarding"),
    "remove": ("offboarding", "removed"),
}
_DONE: Final[dict[Transition, str]] = {
    "change": "changed",
    "suspend": "suspended",
    "resume": "resumed",
    "rotate": "given new credentials",
    "offboard": "offboarded",
    "remove": "removed",
}


def check_transition(state: DesiredState, *operations: Transition) -> None:
    """Raise WrongState unless one of the operations is allowed in the tenant's state."""
    allowed = dict.fromkeys(status for operation in operations for status in _ALLOWED[operation])
    if state.status not in allowed:
        what = f"the tenant {state.cliente_id!r} is {state.stage} and can't be {_DONE[operations[-1]]}"
        raise WrongState(state.cliente_id, state.status, f"{what}. Allowed states: {', '.join(allowed)}")


def generation_in_use(state: DesiredState) -> int:
    """Return the generation of the credentials handed out last.

    A rotation from it continues one that was cut off: repeated after a lost answer, it makes one new user.
    """
    unfinished = 0 < state.applied_generation < state.credentials_generation
    return state.applied_generation if unfinished else state.credentials_generation
