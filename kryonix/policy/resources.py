"""Turn a policy's resources into plain values, and find secrets in plain text among their inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from pulumi_policy import PolicyResource
from pulumi_policy import proxy as unknowns
from pulumi_policy.deserialize import SPECIAL_SECRET_SIG, SPECIAL_SIG_KEY

from kryonix.review.guardrails import Finding
from kryonix.review.plain_text import AddedLine, secrets_in


@dataclass(frozen=True, slots=True)
class _Sign:
    """A placeholder for an unknown or secret value."""

    text: str

    def __str__(self) -> str:
        return self.text


UNKNOWN: Final = _Sign("(known after apply)")
SECRET: Final = _Sign("(secret)")

_UNKNOWN_TEXTS: Final = frozenset(
    value for name, value in vars(unknowns).items() if name.startswith("UNKNOWN_") and isinstance(value, str)
)


@dataclass(frozen=True, slots=True)
class Registered:
    """One resource of a stack. `owners` are the names of its parent components, by type."""

    type: str
    name: str
    urn: str
    props: Mapping[str, Any] = field(repr=False)
    owners: Mapping[str, str] = field(default_factory=dict)


def registered(resources: Iterable[PolicyResource], inputs: Mapping[str, Mapping[str, Any]]) -> list[Registered]:
    """Return all resources of a stack. `inputs` are the program's, by URN.

    A policy of stacks gets only the provider's outputs, and none before the provider exists. Values have lost their
    secret marks by then: show none of them.
    """
    return [
        Registered(r.resource_type, r.name, r.urn, {**plain(r.props), **inputs.get(r.urn, {})}, _owners(r))
        for r in resources
    ]


def _owners(resource: PolicyResource) -> dict[str, str]:
    found: dict[str, str] = {}
    while (parent := resource.parent) is not None:
        found.setdefault(parent.resource_type, parent.name)
        resource = parent
    return found


def plain(value: Any) -> Any:
    """Return a policy's value without its proxies: they raise at the first unknown part."""
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


_AS_DATA: Final = "inputs.yaml"
_MESSAGE: Final = (
    "its value is a secret in plain text, and the state would keep it so. Use an output of the resource that creates "
    "it, or pulumi.Output.secret, and replace the secret: it has been exposed"
)


def plain_secrets(type: str, name: str, inputs: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield the secrets among a resource's inputs; those marked as secret, and unknown ones, are not text."""
    where = f"{type.rpartition(':')[2]} {name}"
    for path, text in _texts((), inputs):
        # Check both `key: value` and the bare value: a container's variable is already a `NAME=value` pair.
        lines = [AddedLine(_AS_DATA, 0, f"{path[-1]}: {text}"), AddedLine(_AS_DATA, 0, text)]
        for finding in islice(secrets_in(lines), 1):
            yield Finding(finding.guardrail, "", f"{where} {'.'.join(path)}", _MESSAGE)


def _texts(path: tuple[str, ...], value: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts((*path, str(key)), item)
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from _texts((*path, str(at)), item)
