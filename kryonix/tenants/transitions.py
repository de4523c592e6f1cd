"""The tenants' state machine: the states that allow an operation, for the lifecycle and the signup service."""

from __future__ import annotations

from typing import Final, Literal

from kryonix.registry.desired_states import DesiredState
from kryonix.tenants.errors import TenantExists, WrongState

Transition = Literal["change", "suspend", "resume", "rotate", "converge", "offboard", "remove"]

_TRANSITIONS: Final[dict[Transition, tuple[str, tuple[str, ...]]]] = {
    "change": ("changed", ("active", "suspended")),
    "suspend": ("suspended", ("active", "suspended")),
    "resume": ("resumed", ("active", "suspended", "offboarding")),
    "rotate": ("given new credentials", ("active", "suspended")),
    "converge": ("converged", ("active", "suspended", "offboarding")),
    "offboard": ("offboarded", ("active", "suspended", "offboarding")),
    "remove": ("removed", ("offboarding", "removed")),
}
"""What a message says was done, and the states that allow it."""
_NEXT_STEPS: Final = {
    "active": "Offboard the tenant first",
    "suspended": "Offboard the tenant first",
    "offboarding": "Resume the tenant first",
    "removing": "Complete the removal, then create the tenant again",
    "removed": "Create the tenant again",
}


def check_transition(state: DesiredState, *operations: Transition) -> None:
    """Raise WrongState unless one of the operations is allowed in the tenant's state."""
    allowed = dict.fromkeys(status for operation in operations for status in _TRANSITIONS[operation][1])
    if state.status not in allowed:
        what = f"the tenant {state.cliente_id!r} is {state.stage} and can't be {_TRANSITIONS[operations[-1]][0]}"
        remedy = f"Allowed states: {', '.join(allowed)}. {_NEXT_STEPS[state.stage]}"
        raise WrongState(f"{what}. {remedy}")


def generation_in_use(state: DesiredState) -> int:
    """Return the generation of the credentials handed out last.

    A rotation from it continues one that was cut off: repeated after a lost answer, it makes one new user.
    """
    unfinished = 0 < state.applied_generation < state.credentials_generation
    return state.applied_generation if unfinished else state.credentials_generation


def is_rotated(state: DesiredState, from_generation: int | None) -> bool:
    """Return True if the row has the next generation already. Raises WrongState if the caller's is out of date."""
    current = state.credentials_generation
    if from_generation is None:
        return current > state.applied_generation > 0
    if current not in (from_generation, from_generation + 1):
        message = f"the credentials of {state.cliente_id!r} are of generation {current}, not {from_generation}"
        remedy = "Read the tenant again, and rotate again if it is still needed"
        raise WrongState(f"{message}. {remedy}")
    return current == from_generation + 1


def unfinished_creation(tenant_id: str, state: DesiredState | None, *, registered: bool) -> DesiredState | None:
    """Return the row of a creation to continue; None for a new tenant. Raises WrongState or TenantExists.

    `registered`: the registry has a configuration under this id.
    """
    if state is not None and state.removing:
        remedy = "Complete the removal, then create the tenant"
        raise WrongState(f"the removal of the tenant {tenant_id!r} is in progress. {remedy}")
    if state is not None and state.status != "removed":
        if state.applied_generation > 0:
            raise tenant_exists(tenant_id)
        return state
    if registered:
        remedy = (
            "If a platform's tenants.yaml declares it, change it there, or give it a stack of its own (`kryonix tenant "
            f"adopt {tenant_id}`); else choose another id"
        )
        raise TenantExists(f"the tenant {tenant_id!r} is already part of another stack. {remedy}")
    return None


def tenant_exists(tenant_id: str) -> TenantExists:
    """Return the error for an id in use."""
    remedy = "Choose another id, or change the existing tenant"
    return TenantExists(f"the tenant {tenant_id!r} already exists. {remedy}")
