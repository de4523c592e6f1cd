"""Events and errors of the Pulumi CLI, translated into ours."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, get_args

import pulumi.automation as auto
from pulumi.automation import events

from kryonix.engines.errors import EngineFailed
from kryonix.engines.events import Diagnostic, OnEvent, Op, ResourceEvent, Status, Step
from kryonix.errors import Failure, split

# The CLI's "replace" stands between a replacement's deletion and creation, which are steps too: it would count twice.
_OPS: Final[dict[str, Op]] = {op: op for op in get_args(Op) if op != "replace"} | {
    "create-replacement": "replace",
    "read-replacement": "read",
}

# Sentences of the CLI, its plugins and the services behind them: these have no data of ours.
_SENTENCES: Final = tuple(
    (Failure(kind=kind, exit_status=status), re.compile(pattern, re.IGNORECASE))
    for kind, status, pattern in (
        ("invalid-config", 2, r"validating stack config:|invalid YAML file:"),
        ("wrong-passphrase", 3, r"incorrect passphrase|passphrase must be set with PULUMI_CONFIG_PASSPHRASE"),
        ("stack-locked", 3, r"the stack is currently locked by"),
        ("port-taken", 3, r"port is already allocated|address already in use"),
        (
            "service-unreachable",
            3,
            r"connection refused|no such host|password authentication failed|responded with a 401 Unauthorized"
            r"|error during connect:|(cannot connect to the|failed to connect to any) docker daemon",
        ),
        ("protected", 1, r"as it is currently marked for protection|because it is protected"),
    )
)

_DEFAULT_PROVIDER: Final = re.compile(r"pulumi:providers:[^:]+::default(_[\d_]+)?$")
"""A provider that the CLI configures by itself. A change of its config changes no resource."""

_FAILED: Final = re.compile(
    r"(update|preview|refresh|destroy) failed|an unhandled error occurred: program exited with non-zero exit code: \d+"
)
_TRACEBACK: Final = re.compile(r"^Traceback \(most recent call last\):\n(?:[ \t]+.*\n)+", re.MULTILINE)
_OURS: Final = re.compile(r"^components\.errors\.\w+: ")


class EventLog:
    """Turns the CLI's events into ours, and keeps steps and error messages."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        self._started: dict[str, tuple[float, Op]] = {}
        self.steps: list[Step] = []
        self.errors: list[str] = []
        self._warnings: set[str] = set()

    def add(self, event: events.EngineEvent) -> None:
        """Handle an event of the CLI."""
        if event.resource_pre_event is not None:
            self._step(event.resource_pre_event.metadata, "started")
        elif event.res_outputs_event is not None:
            self._step(event.res_outputs_event.metadata, "done")
        elif event.res_op_failed_event is not None:
            self._step(event.res_op_failed_event.metadata, "failed")
        elif event.diagnostic_event is not None:
            self._diagnostic(event.diagnostic_event)

    def _step(self, metadata: events.StepEventMetadata, status: Status) -> None:
        op = _OPS.get(str(getattr(metadata.op, "value", metadata.op)))
        if op is None or _DEFAULT_PROVIDER.search(metadata.urn):
            return
        name, changed = metadata.urn.rsplit("::", 1)[-1], tuple(metadata.diffs or ())
        if status == "started":
            self._started[metadata.urn] = (time.monotonic(), op)
        began, asked = self._started.get(metadata.urn, (time.monotonic(), op))
        if asked == "refresh":  # known after the read only
            before = (metadata.old and metadata.old.outputs) or {}
            after = (metadata.new and metadata.new.outputs) or {}
            both = metadata.old is not None and metadata.new is not None
            changed = tuple(sorted(n for n in {*before, *after} if both and before.get(n) != after.get(n)))
        if status == ("done" if asked == "refresh" else "started"):
            self.steps.append(Step(metadata.urn, name, metadata.type, op, changed))
        seconds = time.monotonic() - began
        self._on_event(ResourceEvent(metadata.urn, name, metadata.type, asked, changed, status, seconds=seconds))

    def _diagnostic(self, event: events.DiagnosticEvent) -> None:
        message = _without_traceback(event.message.strip())
        if event.severity == "error":
            self.errors.append(message)
        elif event.severity == "warning" and message not in self._warnings:  # the same for each of 100 resources
            self._warnings.add(message)
            self._on_event(Diagnostic("warning", split(message)[0], event.urn or ""))


@contextmanager
def translated(errors: list[str]) -> Iterator[None]:
    """Raise EngineFailed for a failure of the CLI, with the error messages of its events."""
    try:
        yield
    except auto.CommandError as error:
        stderr = str(error).partition("stderr:")[2] or str(error)  # in the Automation API's frame
        text, failure = split(_message(errors) or stderr.strip())
        message = text if errors else "\n".join(text.splitlines()[-5:])
        raise EngineFailed(message, failure=failure or known_failure(message)) from error


def _message(errors: list[str]) -> str:
    """Return the errors of a run, each once, without the CLI's closing statement that it failed."""
    unique = dict.fromkeys(errors)
    return "\n".join([error for error in unique if not _FAILED.fullmatch(error)] or unique)


def _without_traceback(message: str) -> str:
    """Return an exception's message without the traceback of a dynamic provider's server in front."""
    *frames, text = _TRACEBACK.split(message)
    return _OURS.sub("", text) if frames else message


def known_failure(message: str) -> Failure | None:
    """Return the failure that a sentence of the CLI, of a plugin or of a service is known to mean."""
    return next((failure for failure, pattern in _SENTENCES if pattern.search(message)), None)
