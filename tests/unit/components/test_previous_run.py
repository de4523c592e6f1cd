from __future__ import annotations

from types import SimpleNamespace

import pulumi
import pytest

from components import previous_run
from components.previous_run import PreviousRun

HALF_WRITTEN = (
    "invoke of pulumi:pulumi:readStackOutputs failed: invocation of pulumi:pulumi:readStackOutputs returned an error: "
    "failed to load checkpoint: EOF"
)
"""The Pulumi CLI's own words, when it reads a state of a `file://` backend while it writes it."""


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What the engine answers, in order: an error, or a function's result."""
    given: list[object] = []

    def invoke(token: str, args: object) -> object:
        answer = given.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(value=answer)

    monkeypatch.setattr(pulumi.runtime, "invoke", invoke)
    monkeypatch.setattr(previous_run, "_own_stack", lambda: "organization/kryonix/dev")
    monkeypatch.setattr(previous_run, "_PAUSES_S", (0.0, 0.0, 0.0))
    return given


def test_a_state_being_written_is_read_again(answers: list[object]) -> None:
    answers += [Exception(HALF_WRITTEN), Exception(HALF_WRITTEN), {"outputs": {"layout": 2}}]
    assert PreviousRun.load().outputs == {"layout": 2}


def test_another_error_is_raised_at_once(answers: list[object]) -> None:
    answers += [Exception("incorrect passphrase"), {"outputs": {"layout": 2}}]
    with pytest.raises(Exception, match="incorrect passphrase"):
        PreviousRun.load()
