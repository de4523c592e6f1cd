"""A stack is refreshed and run until nothing of it is missing; what can't be mended so is raised."""

from __future__ import annotations

from typing import Any

import pytest

from kryonix.backup.errors import Incomplete
from kryonix.backup.platform_restoring import PlatformRestore
from kryonix.engines.errors import EngineFailed, Refused

LOST, FAILED, REFUSED = EngineFailed("gone", 3), EngineFailed("half made", 1), Refused("messages would be lost")


class Engine:
    """Ends each run as it is told; None is success."""

    def __init__(self, *endings: Exception | None) -> None:
        self.endings = list(endings)
        self.runs: list[str] = []

    def __getattr__(self, operation: str) -> Any:
        def run(*_: Any) -> None:
            self.runs.append(operation)
            if error := self.endings.pop(0):
                raise error

        return run


def bring_up(*endings: Exception | None) -> list[str]:
    engine: Any = Engine(*endings)
    PlatformRestore(engine, "prod").bring_up()
    assert engine.endings == []
    return list(engine.runs)


def test_a_stack_that_has_all_is_run_once() -> None:
    assert bring_up(None, None) == ["refresh", "up"]


def test_lost_services_are_made_and_then_filled() -> None:
    assert bring_up(LOST, None, None, None) == ["refresh", "up"] * 2


def test_a_run_that_fails_at_what_was_not_noted_is_repeated() -> None:
    assert bring_up(LOST, FAILED, None, None) == ["refresh", "up"] * 2


@pytest.mark.parametrize("endings", [(None, FAILED), (LOST, None, LOST, None, LOST, FAILED)])
def test_a_run_that_goes_on_failing_is_raised(endings: tuple[Exception | None, ...]) -> None:
    with pytest.raises(EngineFailed, match="half made"):
        bring_up(*endings)


def test_what_can_never_be_read_is_incomplete() -> None:
    with pytest.raises(Incomplete, match=r"prod.*can't be read back"):
        bring_up(LOST, None, LOST, None, LOST, None)


@pytest.mark.parametrize("endings", [(REFUSED,), (LOST, REFUSED)])
def test_a_refusal_is_raised_at_once(endings: tuple[Exception | None, ...]) -> None:
    with pytest.raises(Refused, match="messages would be lost"):
        bring_up(*endings)
