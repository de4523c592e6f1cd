"""Live progress: a bar on a terminal, sparse lines in a log."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from kryonix.cli.output import progress
from kryonix.cli.output.progress import Live, RunProgress
from kryonix.engines.events import Op, ResourceEvent


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def test_progress_lines_are_sparse_without_a_terminal(clock: Clock) -> None:
    written = io.StringIO()
    shown = Live(Console(file=written, force_terminal=False), "drift", counted=True, total=9)
    with shown.running():
        for second in range(1, 26):
            clock.now = 100.0 + second
            shown.update("drift: acme", f"drift at {second} s")
    assert written.getvalue() == "drift at 11 s\ndrift at 22 s\n"


def test_a_terminals_progress_bar_is_removed_at_the_end() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=80, color_system=None)
    shown = Live(console, "drift", counted=True, total=9, completed=2)
    with shown.running():
        shown.update("drift: acme", "never written", completed=3)
    assert "drift: acme" in written.getvalue()
    assert "3/9" in written.getvalue()
    assert "never written" not in written.getvalue()
    assert written.getvalue().endswith("\x1b[2K"), "the line is erased at the end"


def test_a_long_name_hides_neither_spinner_clock_nor_counts() -> None:
    written = io.StringIO()
    shown = RunProgress(Console(file=written, force_terminal=True, width=60, color_system=None), "up dev", 468)
    with shown.running():
        shown.on_event(ResourceEvent("urn", f"redeclinicas/{'crm.leads.' * 30}", "a:b:Queue", "create"))
    last = written.getvalue().split("\r")[-2]
    assert re.match(r"(\x1b\[2K)?\S 0:00:0\d up dev: 1 of 468 resources, create redeclin\S*…", last), last


def test_unchanged_resources_are_only_counted(clock: Clock) -> None:
    written = io.StringIO()
    shown = RunProgress(Console(file=written, force_terminal=False, width=200), "up dev", 3)
    ops: list[Op] = ["create", "same", "same"]
    for number, op in enumerate(ops):
        clock.now += 11
        for _ in range(2):  # a replaced resource is reported twice
            shown.on_event(ResourceEvent(f"urn{number}", f"queue-{number}", "a:b:Queue", op))
    assert written.getvalue().splitlines() == [f"up dev: {done} of 3 resources, create queue-0" for done in (1, 2, 3)]
