"""What this release of the worker knows to do. Web and workers of two releases run side by side during an upgrade."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import ValidationError

from kryonix.signup.operations import KINDS, Kind, Operation
from kryonix.topology.tenants import Tenant

__all__ = ["what_is_unknown"]

_FIELDS: Final[Mapping[Kind, frozenset[str]]] = {
    "create": frozenset(Tenant.model_fields),
    "change": frozenset({"modules", "plan", "allow_delete"}),
    "suspend": frozenset(),
    "resume": frozenset(),
    "rotate": frozenset({"from_generation"}),
    "offboard": frozenset(),
    "remove": frozenset({"accept_loss"}),
    "settle": frozenset(),
}


def what_is_unknown(operation: Operation) -> str:
    """What an operation asks for that this release does not know, in words; empty where it knows everything."""
    if operation.kind not in KINDS:
        return f"operations of the kind {operation.kind!r}"
    if more := sorted(set(operation.request) - _FIELDS[operation.kind]):
        return f"{', '.join(map(repr, more))} in a request to {operation.kind}"
    if operation.kind == "create":
        try:
            Tenant.model_validate(operation.request)
        except ValidationError as error:
            return f"such a value of {'.'.join(map(str, error.errors()[0]['loc']))!r} in a request to create"
    return ""
