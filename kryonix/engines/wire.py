"""Lines of JSON from a child process to its parent: events, the result, or an error."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from kryonix.engines.errors import EngineFailed
from kryonix.engines.events import Diagnostic, Event, ResourceEvent, Step, Summary
from kryonix.errors import KryonixError, failure_of

_KINDS: dict[str, type[Event]] = {"resource": ResourceEvent, "diagnostic": Diagnostic}


def of_event(event: Event) -> bytes:
    """Return an event as a line."""
    kind = "resource" if isinstance(event, ResourceEvent) else "diagnostic"
    return _line({"kind": kind, **asdict(event)})


def of_summary(summary: Summary) -> bytes:
    """Return a result as a line, without outputs: they may be secret."""
    steps = [asdict(step) for step in summary.steps]
    return _line({"kind": "summary", "changes": summary.changes, "steps": steps, "seconds": summary.seconds})


def of_error(error: BaseException) -> bytes:
    """Return an error as a line. An exception of a library has its type in front: its text alone says little."""
    if not isinstance(error, KryonixError):
        return _line({"kind": "error", "message": f"{type(error).__name__}: {error}", "exit_status": 1})
    failure = asdict(error.failure) if error.failure else None
    return _line({"kind": "error", "message": str(error), "exit_status": error.exit_status, "failure": failure})


def read(line: bytes) -> Event | Summary | EngineFailed:
    """Return the content of a line."""
    fields: dict[str, Any] = json.loads(line)
    kind = fields.pop("kind")
    if kind == "error":
        failure = fields.get("failure")
        return EngineFailed(fields["message"], fields["exit_status"], failure_of(failure) if failure else None)
    if kind == "summary":
        steps = tuple(Step(**{**step, "changed": tuple(step["changed"])}) for step in fields["steps"])
        return Summary(fields["changes"], steps, seconds=fields["seconds"])
    if "changed" in fields:
        fields["changed"] = tuple(fields["changed"])
    return _KINDS[kind](**fields)


def _line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields).encode() + b"\n"
