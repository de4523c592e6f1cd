"""The Pulumi CLI behind the engine's interface, by way of the Automation API."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pulumi.automation as auto
from pulumi.automation import events

from kryonix.engines.address import StackAddress
from kryonix.engines.errors import EngineFailed
from kryonix.engines.events import Diagnostic, OnEvent, Op, ResourceEvent, Status, Step, Summary, count_changes
from kryonix.engines.takeover import refuse_begun_locally
from kryonix.errors import Failure, split

__all__ = ["AutomationEngine", "EventLog", "known_failure", "translated"]

_OPS: Final[dict[str, Op]] = {
    "same": "same",
    "create": "create",
    "update": "update",
    "delete": "delete",
    "replace": "replace",
    "create-replacement": "replace",
    "read": "read",
    "read-replacement": "read",
    "refresh": "refresh",
}

# Sentences of the CLI, its plugins and the services behind them: all there is where the program did not fail itself.
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
            r"connection refused|no such host|Cannot connect to the Docker daemon|password authentication failed",
        ),
        ("protected", 1, r"as it is currently marked for protection|because it is protected"),
    )
)

_DEFAULT_PROVIDER: Final = re.compile(r"pulumi:providers:[^:]+::default(_[\d_]+)?$")
"""A plugin that the CLI configures by itself. That it has other config now changes nothing in the world."""

_FAILED: Final = re.compile(
    r"(update|preview|refresh|destroy) failed|an unhandled error occurred: program exited with non-zero exit code: \d+"
)
_TRACEBACK: Final = re.compile(r"^Traceback \(most recent call last\):\n(?:[ \t]+.*\n)+", re.MULTILINE)
_OURS: Final = re.compile(r"^components\.errors\.\w+: ")


class AutomationEngine:
    """One stack of the project folder, run by the `pulumi` command."""

    def __init__(self, address: StackAddress, on_event: OnEvent) -> None:
        self._address = address
        self._on_event = on_event
        self._config = {"config_file": str(address.config_file)} if address.config_file else {}

    def preview(self) -> Summary:
        return self._run(lambda stack, **run: stack.preview(**run, **self._config))

    def up(self) -> Summary:
        return self._run(lambda stack, **run: stack.up(**run, **self._config, show_secrets=False))

    def refresh(self) -> Summary:
        return self._run(lambda stack, **run: stack.refresh(**run, **self._config, show_secrets=False))

    def destroy(self) -> Summary:
        return self._run(lambda stack, **run: stack.destroy(**run, **self._config, show_secrets=False))

    def outputs(self, show_secrets: bool = False) -> dict[str, Any]:
        with translated([]):
            known = self._known()
            found = known.outputs() if known else {}
        return {name: _shown(output.value, output.secret and not show_secrets) for name, output in found.items()}

    def export(self) -> dict[str, Any]:
        with translated([]):
            if (known := self._known()) is None:
                remedy = f"`kryonix up --stack {self._address.stack}` makes it"
                raise EngineFailed(f"the Pulumi CLI knows no stack {self._address.stack!r}. {remedy}", 2)
            deployment = known.export_stack()
        return {"version": deployment.version, "deployment": deployment.deployment}

    def _known(self) -> auto.Stack | None:
        """The stack, or None where the backend has none of its name. Raises BegunLocally."""
        try:
            return auto.select_stack(stack_name=self._address.stack, work_dir=str(self._address.project))
        except auto.StackNotFoundError:
            refuse_begun_locally(self._address.project, self._address.stack)
            return None

    def _stack(self) -> auto.Stack:
        """The stack, made where there is none."""
        known = self._known()
        if known is not None:
            return known
        return auto.create_or_select_stack(stack_name=self._address.stack, work_dir=str(self._address.project))

    def _run(self, operation: Callable[..., Any]) -> Summary:
        started, log = time.monotonic(), EventLog(self._on_event)
        with translated(log.errors):
            operation(self._stack(), on_event=log.take, color="never")
        steps = tuple(log.steps)
        return Summary(changes=count_changes(steps), steps=steps, seconds=time.monotonic() - started)


class EventLog:
    """Turns the CLI's events into ours, and keeps steps and errors."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        self._started: dict[str, tuple[float, Op]] = {}
        self.steps: list[Step] = []
        self.errors: list[str] = []

    def take(self, event: events.EngineEvent) -> None:
        """One event of the CLI."""
        if event.resource_pre_event is not None:
            self._step(event.resource_pre_event.metadata, "started")
        elif event.res_outputs_event is not None:
            self._step(event.res_outputs_event.metadata, "done")
        elif event.res_op_failed_event is not None:
            self._step(event.res_op_failed_event.metadata, "failed")
        elif event.diagnostic_event is not None:
            self._diagnostic(event.diagnostic_event)

    def _step(self, metadata: events.StepEventMetadata, status: Status) -> None:
        op = _op(metadata)
        if op is None or _DEFAULT_PROVIDER.search(metadata.urn):
            return
        name, changed = metadata.urn.rsplit("::", 1)[-1], tuple(metadata.diffs or ())
        if status == "started":
            self._started[metadata.urn] = (time.monotonic(), op)
        began, asked = self._started.get(metadata.urn, (time.monotonic(), op))
        if asked == "refresh":  # what it found is known once it has read
            changed = _differing(metadata)
        if status == ("done" if asked == "refresh" else "started"):
            self.steps.append(Step(metadata.urn, name, metadata.type, op, changed))
        seconds = time.monotonic() - began
        self._on_event(ResourceEvent(metadata.urn, name, metadata.type, asked, status, changed, "", seconds))

    def _diagnostic(self, event: events.DiagnosticEvent) -> None:
        message = _without_traceback(event.message.strip())
        if event.severity == "error":
            self.errors.append(message)
        elif event.severity == "warning":
            self._on_event(Diagnostic("warning", split(message)[0], event.urn or ""))


@contextmanager
def translated(errors: list[str]) -> Iterator[None]:
    """Raise EngineFailed for what the CLI ends with, with the errors that its events told."""
    try:
        yield
    except auto.CommandError as error:
        text, failure = split(_message(errors) or _stderr(str(error)))
        message = text if errors else "\n".join(text.splitlines()[-5:])
        raise EngineFailed(message, failure=failure or known_failure(message)) from error


def _op(metadata: events.StepEventMetadata) -> Op | None:
    return _OPS.get(str(getattr(metadata.op, "value", metadata.op)))


def _differing(metadata: events.StepEventMetadata) -> tuple[str, ...]:
    """The names of what a refresh has found to be otherwise. Values are never told."""
    if metadata.old is None or metadata.new is None:
        return ()
    before, after = metadata.old.outputs or {}, metadata.new.outputs or {}
    return tuple(sorted(name for name in {*before, *after} if before.get(name) != after.get(name)))


def _message(errors: list[str]) -> str:
    """What a run's errors say, without the CLI's last word that it failed."""
    said = dict.fromkeys(errors)
    return "\n".join([error for error in said if not _FAILED.fullmatch(error)] or said)


def _without_traceback(message: str) -> str:
    """What an exception says, where a dynamic provider's server has put its traceback in front of it."""
    *frames, said = _TRACEBACK.split(message)
    return _OURS.sub("", said) if frames else message


def known_failure(message: str) -> Failure | None:
    """Return the failure that a sentence of the CLI, of a plugin or of a service is known to mean."""
    return next((failure for failure, pattern in _SENTENCES if pattern.search(message)), None)


def _stderr(text: str) -> str:
    """Return the CLI's standard error, without the Automation API's frame around it."""
    return text.partition("stderr:")[2].strip() or text.strip()


def _shown(value: Any, hidden: bool) -> Any:
    return "[secret]" if hidden else value
