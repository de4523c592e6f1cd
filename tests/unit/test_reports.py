from __future__ import annotations

from tests.conftest import printable


def test_a_report_with_lone_surrogates_can_be_sent_to_another_process() -> None:
    report = {"sections": [("log", "x\udcff"), ("é", 1)], "\ud800": None}
    assert printable(report) == {"sections": [("log", r"x\udcff"), ("é", 1)], r"\ud800": None}
