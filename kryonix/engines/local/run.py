"""What the parts of one run share: the ledger, the providers, the slots for work, the first failure, the steps."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import BoundedSemaphore, Event, Lock
from time import monotonic

from kryonix.engines.events import Diagnostic, OnEvent, Op, ResourceEvent, Severity, Step
from kryonix.engines.local.errors import ApplyFailed, LocalError, Refusal
from kryonix.engines.local.ledger import Ledger
from kryonix.engines.local.providers import Providers
from kryonix.engines.local.resource import Resource

__all__ = ["TRACEBACK_LIMIT", "ResourceFailed", "Run", "Stopped", "Target"]

TRACEBACK_LIMIT = 1000  # said outright: while a program runs, the interpreter's own default is lower
VERBS = {
    "same": "could not be checked",
    "create": "could not be created",
    "update": "could not be updated",
    "replace": "could not be replaced",
    "delete": "could not be deleted",
    "read": "could not be read",
    "refresh": "could not be read",
}


class Stopped(LocalError):
    """A registration that came after the first failure; never the failure that is reported."""


class ResourceFailed(ApplyFailed):
    """A handler could not do its work; names the resource, and ends with the exit status of what it met."""

    def __init__(self, resource: Resource, op: Op, cause: BaseException) -> None:
        text = str(cause) or type(cause).__name__
        if not isinstance(cause, LocalError):
            text = f"{type(cause).__name__}: {text}"
        where = "" if isinstance(cause, Refusal) else f"{resource.type} '{resource.name}' {VERBS[op]}: "
        super().__init__(f"{where}{text}")
        status = getattr(cause, "exit_status", None)
        self.exit_status = status if isinstance(status, int) else 1
        known = isinstance(cause, LocalError) or isinstance(status, int)
        self.details = "" if known else "".join(traceback.format_exception(cause, limit=TRACEBACK_LIMIT))


@dataclass(frozen=True, slots=True)
class Target:
    """Which stack of which project a run works on."""

    project: str
    stack: str


class Run:
    """One preview, up, refresh or destroy."""

    def __init__(
        self, target: Target, ledger: Ledger, providers: Providers, *, parallel: int, dry_run: bool, on_event: OnEvent
    ) -> None:
        self.target = target
        self.ledger = ledger
        self.providers = providers
        self.parallel = parallel
        self.dry_run = dry_run
        self.steps: list[Step] = []
        self.failure: BaseException | None = None
        self._slots = BoundedSemaphore(parallel)
        self._stop = Event()
        self._lock = Lock()
        self._on_event = on_event

    def fail(self, error: BaseException) -> None:
        """Stop starting work. Only the first failure counts; what comes after follows from it."""
        with self._lock:
            if not isinstance(error, Stopped) and self.failure is None:
                self.failure = error
        self._stop.set()

    @property
    def stopped(self) -> bool:
        """Whether no more work is to be started."""
        return self._stop.is_set()

    def check(self) -> None:
        """Raises `Stopped` where no more work is to be started."""
        if self._stop.is_set():
            raise Stopped("The run stopped at an earlier failure.")

    def step(self, resource: Resource, op: Op, changed: tuple[str, ...] = ()) -> None:
        """Count a step of the summary."""
        if resource.is_default_provider:
            return
        with self._lock:
            self.steps.append(Step(resource.urn, resource.name, resource.type, op, changed))

    def tell(self, resource: Resource, op: Op, changed: tuple[str, ...] = ()) -> None:
        """Report something that took no work."""
        if resource.is_default_provider:
            return
        self._emit(ResourceEvent(resource.urn, resource.name, resource.type, op, "done", changed))

    def say(self, severity: Severity, message: str, urn: str = "") -> None:
        """Report a message."""
        with self._lock:
            self._on_event(Diagnostic(severity, message, urn))

    @contextmanager
    def working(self, resource: Resource, op: Op, changed: tuple[str, ...] = ()) -> Iterator[None]:
        """Do a handler's work in one of the slots, and report its start, end or failure."""
        about = (resource.urn, resource.name, resource.type, op)
        with self._slots:
            self.check()
            self._emit(ResourceEvent(*about, "started", changed))
            start = monotonic()
            try:
                yield
            except Exception as error:
                failure = error if isinstance(error, ResourceFailed) else ResourceFailed(resource, op, error)
                seconds = monotonic() - start
                self._emit(ResourceEvent(*about, "failed", changed, error=str(failure), seconds=seconds))
                raise failure from error
            self._emit(ResourceEvent(*about, "done", changed, seconds=monotonic() - start))

    @contextmanager
    def working_quietly(self, resource: Resource) -> Iterator[None]:
        """Do a handler's work that is no I/O and not worth a report, unless it fails."""
        try:
            yield
        except ResourceFailed:
            raise
        except Exception as error:
            raise ResourceFailed(resource, "same", error) from error

    def _emit(self, event: ResourceEvent) -> None:
        with self._lock:
            self._on_event(event)
