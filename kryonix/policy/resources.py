"""Resources as a policy is shown them, turned into plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pulumi_policy import PolicyResource
from pulumi_policy import proxy as unknowns
from pulumi_policy.deserialize import SPECIAL_SECRET_SIG, SPECIAL_SIG_KEY, serialize_properties

__all__ = ["SECRET", "UNKNOWN", "Registered", "marked", "plain", "registered"]


@dataclass(frozen=True, slots=True)
class _Sign:
    """Stands where a value can't or mustn't be shown."""

    text: str

    def __str__(self) -> str:
        return self.text


UNKNOWN: Final = _Sign("(not known before it is made)")
SECRET: Final = _Sign("(secret)")

_UNKNOWN_TEXTS: Final = frozenset(
    value for name, value in vars(unknowns).items() if name.startswith("UNKNOWN_") and isinstance(value, str)
)


@dataclass(frozen=True, slots=True)
class Registered:
    """One resource of a stack. `owners` are the names of the components around it, by type."""

    type: str
    name: str
    urn: str
    props: Mapping[str, Any] = field(repr=False)
    owners: Mapping[str, str] = field(default_factory=dict)


def registered(resources: Iterable[PolicyResource], inputs: Mapping[str, Mapping[str, Any]]) -> list[Registered]:
    """All resources of a stack, with what is known of each: `inputs` are those that the program gave, by URN.

    A policy of stacks is shown only what a provider makes of them, and nothing while the provider is not there yet.
    Values lose their secret marks on the way to a policy: none is for showing.
    """
    return [
        Registered(r.resource_type, r.name, r.urn, {**plain(r.props), **inputs.get(r.urn, {})}, _owners(r))
        for r in resources
    ]


def marked(props: Mapping[str, Any]) -> Any:
    """One resource's inputs as a remediation is shown them, with `SECRET` in place of what is marked as such."""
    return plain(serialize_properties(props))


def _owners(resource: PolicyResource) -> dict[str, str]:
    found: dict[str, str] = {}
    while (parent := resource.parent) is not None:
        found.setdefault(parent.resource_type, parent.name)
        resource = parent
    return found


def plain(value: Any) -> Any:
    """A value as a policy has it, without the proxies that raise at the first unknown part."""
    if isinstance(value, str):
        return UNKNOWN if value in _UNKNOWN_TEXTS else value
    if isinstance(value, Mapping):
        if not isinstance(value, dict):
            value = value["__target"]
        if value.get(SPECIAL_SIG_KEY) == SPECIAL_SECRET_SIG:
            return SECRET
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        items = value if isinstance(value, list) else value["__target"]  # type: ignore[call-overload]  # the proxy's key
        return [plain(item) for item in items]
    return value
