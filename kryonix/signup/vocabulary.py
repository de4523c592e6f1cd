"""Detect operations of a newer release: web and workers of two releases run side by side during an upgrade."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import ValidationError

from kryonix.signup.operations import KINDS, Kind, Operation
from kryonix.topology.tenants import Tenant

__all__ = ["unknown_part"]

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


def unknown_part(operation: Operation) -> str:
    """Describe the part of an operation that this release does not know. Empty if it knows all of it."""
    if operation.kind not in KINDS:
        return f"operations of the kind {operation.kind!r}"
    if more := sorted(set(operation.request) - _FIELDS[operation.kind]):
        return f"{', '.join(map(repr, more))} in a request to {operation.kind}"
    if operation.kind == "create":
        try:
            Tenant.model_validate(operation.request)
        except ValidationError as error:
            return f"this value of {'.'.join(map(str, error.errors()[0]['loc']))!r} in a request to create"
    return ""
