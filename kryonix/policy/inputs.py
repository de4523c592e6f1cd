"""Secrets in plain text in a resource's inputs: the state and its backups would keep them readable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final

from kryonix.review.guardrails import Finding
from kryonix.review.plain_text import AddedLine, secrets_in

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
