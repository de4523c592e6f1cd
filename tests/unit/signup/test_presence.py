"""Tracking of the database's availability."""

from __future__ import annotations

import pytest

from kryonix.registry.connection import NoAnswer
from kryonix.signup.database import Presence
from tests.unit.signup.test_rate import Clock


def test_one_caller_at_a_time_probes_an_absent_database() -> None:
    clock = Clock()
    presence = Presence(clock)
    presence.missed()
    with presence.asking(), presence.asking():
        pass  # a single miss may be a stale connection
    clock.now = 1.5
    with presence.asking():
        with pytest.raises(NoAnswer), presence.asking():
            pass
        presence.answered()
        with presence.asking():
            pass


def test_a_failed_probe_frees_its_place() -> None:
    clock = Clock()
    presence = Presence(clock)
    presence.missed(since=-5)
    for _ in range(2):
        with pytest.raises(OSError, match="away"), presence.asking():
            raise OSError("away")
    assert presence.away
