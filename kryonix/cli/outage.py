"""Why a platform's service did not answer, told instead of what failed of that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

from kryonix.engines.containers import advice, container_names, paused, platform_of
from kryonix.engines.deployer import deployer_for
from kryonix.engines.engine import Choice
from kryonix.engines.errors import LifecycleError, Refused
from kryonix.engines.local.errors import LocalError, PrerequisiteMissing
from kryonix.engines.spec import StackSpec
from kryonix.errors import KryonixError, ServiceUnreachable

__all__ = ["Outage", "explains_outages"]

_UNREACHABLE: Final = 3

P = ParamSpec("P")
R = TypeVar("R")


class Outage:
    """The containers of a stack's platform, as the state had them when this was made."""

    def __init__(self, stack: str, engine: Choice) -> None:
        self._deployer = deployer_for(engine, Path.cwd())
        deployment = self._export(stack)
        self._stack = platform_of(deployment) or stack
        self._names = container_names(deployment if self._stack == stack else self._export(self._stack))

    def refuse_paused(self) -> None:
        """Raise ServiceUnreachable where a container is paused: who asks it waits, for each question anew."""
        if said := paused(self._stack, self._names):
            raise ServiceUnreachable(said)

    def explain(self, error: Exception) -> ServiceUnreachable | None:
        """Return what to say instead of an error, or None where Docker knows nothing of its cause."""
        refused = isinstance(error, Refused | KryonixError)
        if _came_of(error, PrerequisiteMissing):  # a port that is taken, an image that is missing: the cause itself
            return None
        if refused or getattr(error, "exit_status", 1) == Refused.exit_status:
            return None
        said = self.advice()
        return None if said is None else ServiceUnreachable(said)

    def advice(self) -> str | None:
        """Return what is wrong with the platform's containers, and what to do; None where they run."""
        noted = frozenset(self._names) - frozenset(container_names(self._export(self._stack)))
        return advice(self._stack, self._names, noted)

    def _export(self, stack: str) -> Mapping[str, Any]:
        try:
            return self._deployer.export(StackSpec(name=stack))
        except (LifecycleError, LocalError):  # whatever it is, what is run next tells it
            return {}


def _came_of(error: BaseException | None, kind: type[Exception]) -> bool:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:  # a failure of several threads may be its own cause
        if isinstance(error, kind):
            return True
        seen.add(id(error))
        error = error.__cause__
    return False


def explains_outages(run: Callable[P, R]) -> Callable[P, R]:
    """Make a command that takes `stack` and `engine` say which container of the platform does not run."""
    parameters = signature(run)

    @wraps(run)
    def explained(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return run(*args, **kwargs)
        except Exception as error:
            if getattr(error, "exit_status", None) != _UNREACHABLE:
                raise
            given = parameters.bind(*args, **kwargs).arguments
            said = Outage(given["stack"], given["engine"]).explain(error)
            if said is None:
                raise
            raise said from error

    return explained
