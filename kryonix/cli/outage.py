"""Replace the error of an unreachable service by its cause: a stopped container of the platform."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, Final, ParamSpec, cast

from kryonix.cli.options import PlatformOptions
from kryonix.cli.output.console import print_error
from kryonix.cli.site import engine_of, spec_of
from kryonix.engines.containers import advice, container_names, paused, platform_of
from kryonix.engines.errors import Refused
from kryonix.errors import KryonixError, MissingPrerequisite, ServiceUnreachable

_UNREACHABLE: Final = 3

P = ParamSpec("P")


class Outage:
    """The containers of a stack's platform, as recorded when this object was made."""

    def __init__(self, options: PlatformOptions) -> None:
        self._options = options
        deployment = self._export(options.stack)
        self._stack = platform_of(deployment) or options.stack
        self._names = container_names(deployment if self._stack == options.stack else self._export(self._stack))

    def refuse_paused(self) -> None:
        """Raise ServiceUnreachable if a container is paused: each request to it would wait until it times out."""
        if text := paused(self._stack, self._names):
            raise ServiceUnreachable(text)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Raise ServiceUnreachable with the cause, if Docker knows it, instead of the block's error."""
        try:
            yield
        except KryonixError as error:
            # A missing image or an occupied port is itself the cause.
            refused = isinstance(error, Refused) or error.exit_status == Refused.exit_status
            if refused or _caused_by_prerequisite(error) or not (text := self.advice()):
                raise
            raise ServiceUnreachable(text) from error

    def advice(self) -> str | None:
        """Return which container does not run and what to do, or None if all run."""
        noted = frozenset(self._names) - frozenset(container_names(self._export(self._stack)))
        return advice(self._stack, self._names, noted)

    def _export(self, stack: str) -> Mapping[str, Any]:
        try:
            return engine_of(self._options).export(spec_of(self._options, stack))
        except KryonixError:  # the command that follows reports it
            return {}


def _caused_by_prerequisite(error: BaseException | None) -> bool:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:  # a failure of several threads may be its own cause
        if isinstance(error, MissingPrerequisite):
            return True
        seen.add(id(error))
        error = error.__cause__
    return False


def print_outage(platform: PlatformOptions) -> None:
    """Print which container of the platform does not run, if any."""
    if text := Outage(platform).advice():
        print_error(text)


def explain_outages(run: Callable[P, None]) -> Callable[P, None]:
    """Let a command with a `platform` argument report a stopped container instead of an unreachable service."""

    @wraps(run)
    def explained(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            run(*args, **kwargs)
        except KryonixError as error:
            if error.exit_status != _UNREACHABLE:
                raise
            with Outage(cast(PlatformOptions, kwargs["platform"])).explained():
                raise

    return explained
