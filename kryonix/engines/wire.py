"""What a run in a child process tells its parent: lines of JSON for events, for the result, and for an error."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from kryonix.engines.errors import EngineFailed
from kryonix.engines.events import Diagnostic, Event, ResourceEvent, Step, Summary

__all__ = ["of_error", "of_event", "of_summary", "read"]

_KINDS: dict[str, type[Event]] = {"resource": ResourceEvent, "diagnostic": Diagnostic}


def of_event(event: Event) -> bytes:
    """An event as a line."""
    kind = "resource" if isinstance(event, ResourceEvent) else "diagnostic"
    return _line({"kind": kind, **asdict(event)})


def of_summary(summary: Summary) -> bytes:
    """A result as a line. Outputs stay behind: whoever may see them asks for them."""
    steps = [asdict(step) for step in summary.steps]
    return _line({"kind": "summary", "changes": summary.changes, "steps": steps, "seconds": summary.seconds})


def of_error(error: BaseException) -> bytes:
    """An error as a line. One that is not ours is told by its type too, as its text alone says little."""
    status = getattr(error, "exit_status", None)
    message = str(error) if isinstance(status, int) else f"{type(error).__name__}: {error}"
    return _line({"kind": "error", "message": message, "exit_status": status if isinstance(status, int) else 1})


def read(line: bytes) -> Event | Summary | EngineFailed:
    """What a line says."""
    fields: dict[str, Any] = json.loads(line)
    kind = fields.pop("kind")
    if kind == "error":
        return EngineFailed(fields["message"], fields["exit_status"])
    if kind == "summary":
        steps = tuple(Step(**{**step, "changed": tuple(step["changed"])}) for step in fields["steps"])
        return Summary(fields["changes"], steps, seconds=fields["seconds"])
    if "changed" in fields:
        fields["changed"] = tuple(fields["changed"])
    return _KINDS[kind](**fields)


def _line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields).encode() + b"\n"
