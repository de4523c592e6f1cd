"""Messages are counted by reports that are newer than the closing of a vhost, and no missing report counts as none."""

from __future__ import annotations

from typing import Any, cast

import pytest

from kryonix.backup.rollback import COUNTS_AGE_S, settled_messages
from kryonix.rabbitmq.broker import Broker


class Reports:
    """A broker whose queues report one after the other, and the seconds that pass meanwhile."""

    def __init__(self, *counts: dict[str, int | None]) -> None:
        self._counts = list(counts)
        self.slept = 0.0

    def counts(self, vhost: str) -> dict[str, int | None]:
        return self._counts.pop(0) if len(self._counts) > 1 else self._counts[0]

    def sleep(self, seconds: float) -> None:
        self.slept += seconds

    def settled(self, patch: pytest.MonkeyPatch, *queues: str) -> dict[str, int | None]:
        patch.setattr("kryonix.backup.rollback.time.sleep", self.sleep)
        patch.setattr("kryonix.backup.rollback.time.monotonic", lambda: self.slept)
        return settled_messages(cast("Broker", cast("Any", self)), "/cliente_acme", queues)


def test_counts_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Reports({"a": None, "b": 1, "other": None}, {"a": 3, "b": 1, "other": None})
    assert broker.settled(monkeypatch, "a", "b", "missing") == {"a": 3, "b": 1}
    assert broker.slept > COUNTS_AGE_S


def test_a_queue_that_never_reports_has_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Reports({"a": None, "b": 0})
    assert broker.settled(monkeypatch, "a", "b") == {"a": None, "b": 0}
    assert broker.slept < 60


def test_without_queues_nothing_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Reports({"a": None})
    assert broker.settled(monkeypatch) == {}
    assert broker.slept == 0
