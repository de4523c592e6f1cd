"""One run: its ledger and handlers, the slots for parallel work, the first failure, and the steps of the summary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import BoundedSemaphore, Event, Lock
from time import monotonic
from typing import Final

from kryonix.engines.events import (
    Diagnostic,
    OnEvent,
    Op,
    ResourceEvent,
    Severity,
    Status,
    Step,
    Summary,
    count_changes,
)
from kryonix.engines.local import values
from kryonix.engines.local.errors import ApplyFailed, LocalError, Refusal
from kryonix.engines.local.handlers.base import Handler, Properties, Provider, ProviderFactory
from kryonix.engines.local.ledger import Ledger
from kryonix.engines.local.project import Project, StackConfig
from kryonix.engines.local.resource import PROVIDER_PREFIX, STACK_TYPE, Resource, package_of
from kryonix.errors import KryonixError

DYNAMIC: Final = "pulumi-python"
NOT_CONFIG: Final = ("version", "__internal", "pluginDownloadURL")
IRREGULAR: Final = {"same": "checked", "read": "read", "refresh": "read"}
"""The participles that are not the operation's name with a `d`."""


class Stopped(LocalError):
    """A registration after the first failure; never reported as the failure."""


class ResourceFailed(ApplyFailed):
    """A handler failed. Names the resource; has the exit status of the cause."""

    def __init__(self, resource: Resource, op: Op, cause: BaseException) -> None:
        text = str(cause) or type(cause).__name__
        if not isinstance(cause, LocalError):
            text = f"{type(cause).__name__}: {text}"
        done = IRREGULAR.get(op, f"{op}d")
        where = "" if isinstance(cause, Refusal) else f"{resource.type} '{resource.name}' could not be {done}: "
        super().__init__(f"{where}{text}")
        if isinstance(cause, KryonixError):
            self.exit_status = cause.exit_status
            self.failure = cause.failure


@dataclass(eq=False, kw_only=True)
class Run:
    """One preview, up, refresh or destroy of a stack. `parallel` limits concurrent handler calls."""

    project: Project
    stack: str
    config: StackConfig
    ledger: Ledger
    providers: ProviderFactory
    on_event: OnEvent
    parallel: int
    dry_run: bool

    def __post_init__(self) -> None:
        self.steps: list[Step] = []
        self.failure: BaseException | None = None
        self._start = monotonic()
        self._slots = BoundedSemaphore(self.parallel)
        self._stop = Event()
        self._lock = Lock()
        self._opening = Lock()
        self._open: dict[str, Provider] = {}
        self._handlers: dict[tuple[str, str], Handler] = {}

    def urn(self, parent: str, type_token: str, name: str) -> str:
        """Return the URN of a resource of the stack; the types of a parent come first, except the stack's."""
        parents = parent.split("::", 3)[2] if parent else STACK_TYPE
        qualified = type_token if parents == STACK_TYPE else f"{parents}${type_token}"
        return f"urn:pulumi:{self.stack}::{self.project.name}::{qualified}::{name}"

    def summary(self, outputs: Properties | None = None) -> Summary:
        """Return the result of the run."""
        steps = tuple(self.steps)
        return Summary(count_changes(steps), steps, outputs or {}, seconds=monotonic() - self._start)

    def handler(self, resource: Resource) -> Handler:
        """Return the handler of a resource, from one provider per provider's URN. Raise `UnsupportedResource`."""
        urn = resource.provider.rsplit("::", 1)[0]
        with self._opening:
            handler = self._handlers.get((urn, resource.type))
            if handler is None:
                if urn not in self._open:
                    known = self.ledger.get(urn)
                    package = known.type.removeprefix(PROVIDER_PREFIX) if known else package_of(resource.type)
                    inputs = values.plain(known.inputs) if known else {}
                    given = self.config.values if package == DYNAMIC else inputs
                    config = {key: value for key, value in given.items() if key not in NOT_CONFIG}
                    self._open[urn] = self.providers(package, config)
                handler = self._handlers[urn, resource.type] = self._open[urn].handler(resource.type)
            return handler

    def close(self) -> None:
        """Release the providers' connections."""
        for provider in self._open.values():
            with suppress(Exception):
                provider.close()

    def fail(self, error: BaseException) -> None:
        """Start no more work, and keep the first failure: later ones follow from it."""
        with self._lock:
            if not isinstance(error, Stopped) and self.failure is None:
                self.failure = error
        self._stop.set()

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Record an exception of the block as a failure of the run, and raise it."""
        try:
            yield
        except BaseException as error:
            self.fail(error)
            raise

    @property
    def stopped(self) -> bool:
        """True if no more work may start."""
        return self._stop.is_set()

    def check(self) -> None:
        """Raise `Stopped` if no more work may start."""
        if self.stopped:
            raise Stopped("The run stopped at an earlier failure.")

    def step(self, resource: Resource, op: Op, changed: tuple[str, ...] = ()) -> None:
        """Count a step of the summary."""
        if not resource.is_default_provider:
            with self._lock:
                self.steps.append(Step(resource.urn, resource.name, resource.type, op, changed))

    def report(
        self, resource: Resource, op: Op, changed: tuple[str, ...] = (), status: Status = "done", **more: object
    ) -> None:
        """Report progress of a resource."""
        if not resource.is_default_provider:
            event = ResourceEvent(resource.urn, resource.name, resource.type, op, changed, status, **more)  # type: ignore[arg-type]
            with self._lock:
                self.on_event(event)

    def say(self, severity: Severity, message: str, urn: str = "") -> None:
        """Report a message."""
        with self._lock:
            self.on_event(Diagnostic(severity, message, urn))

    @contextmanager
    def working(self, resource: Resource, op: Op, changed: tuple[str, ...] = ()) -> Iterator[None]:
        """Hold a slot for a handler's work, and report its start, end or failure."""
        with self._slots:
            self.check()
            self.report(resource, op, changed, "started")
            start = monotonic()
            try:
                yield
            except Exception as error:
                failure = error if isinstance(error, ResourceFailed) else ResourceFailed(resource, op, error)
                self.report(resource, op, changed, "failed", error=str(failure), seconds=monotonic() - start)
                raise failure from error
            self.report(resource, op, changed, seconds=monotonic() - start)

    @contextmanager
    def checking(self, resource: Resource) -> Iterator[None]:
        """Translate errors of a handler's work without I/O; do not report its progress."""
        try:
            yield
        except ResourceFailed:
            raise
        except Exception as error:
            raise ResourceFailed(resource, "same", error) from error
