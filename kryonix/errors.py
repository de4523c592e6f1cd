"""The root of every error that ends a command with a message, and the data that processes pass on about an error.

The program of a stack runs in another process, whose errors arrive as text. So its text ends with one line of data:
`kryonix-error: {"kind": ..., "exit_status": ..., "queues": {name: messages}}`. Only `attach` and `split` know the line.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

_MARKER: Final = "kryonix-error:"
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An error as data. `queues` maps the queues that would lose messages to their messages."""

    kind: str
    exit_status: int = 1
    queues: Mapping[str, int] = field(default_factory=dict)


def attach(message: str, failure: Failure) -> str:
    """Return a message that ends with its failure as one line of data.

    A name in the message can't forge that line: the marker inside the message is broken.
    """
    queues = {"queues": dict(failure.queues)} if failure.queues else {}
    data = json.dumps({"kind": failure.kind, "exit_status": failure.exit_status, **queues})
    return f"{message.replace(_MARKER, _MARKER.replace(':', ' :'))}\n{_MARKER} {data}"


def split(text: str) -> tuple[str, Failure | None]:
    """Return a text without its lines of data, and the failures in them as one; None without any.

    The text may be indented, coloured, cut off, or hold the errors of several resources.
    """
    if _MARKER not in text:
        return text, None
    kept: list[str] = []
    found: list[Failure] = []
    for line in text.split("\n"):
        before, marker, data = line.partition(_MARKER)
        failure, after = _read(data) if marker else (None, "")
        if failure and failure not in found:
            found.append(failure)
        rest = _COLOUR.sub("", before + after) if marker else line
        if not marker or rest.strip():
            kept.append(rest)
    return "\n".join(kept).rstrip(), _merged(found)


def _read(data: str) -> tuple[Failure | None, str]:
    try:
        fields, end = json.JSONDecoder().raw_decode(data.lstrip())
        return failure_of(fields), data.lstrip()[end:]
    except (AttributeError, KeyError, TypeError, ValueError):
        return None, ""  # cut off on its way


def failure_of(fields: Mapping[str, Any]) -> Failure:
    """Return the failure that JSON fields describe. Raises what a wrong field causes."""
    queues = {str(name): int(count) for name, count in dict(fields.get("queues", {})).items()}
    return Failure(kind=str(fields["kind"]), exit_status=int(fields["exit_status"]), queues=queues)


def _merged(found: Iterable[Failure]) -> Failure | None:
    """Return the failures as one: the refusal to lose messages first, then another refusal, then an outage."""
    by_weight = sorted(found, key=lambda each: (bool(each.queues), each.exit_status == 2, each.exit_status))
    if not by_weight:
        return None
    queues: Counter[str] = Counter()
    for failure in by_weight:
        queues.update(failure.queues)
    return Failure(kind=by_weight[-1].kind, exit_status=by_weight[-1].exit_status, queues=dict(queues))


class KryonixError(Exception):
    """Base of every error with a message for a person; `exit_status` is the command's.

    `failure` is the data that the program of a stack gave about it, if any.
    """

    exit_status = 1
    failure: Failure | None = None


class InvalidChoice(KryonixError):
    """An argument or an input that is not valid. Nothing has been changed."""

    exit_status = 2


class ServiceUnreachable(KryonixError):
    """A service does not answer, or refuses the credentials."""

    exit_status = 3


class MissingPrerequisite(ServiceUnreachable):
    """Something a resource needs is missing, such as a free port; nothing was created."""
