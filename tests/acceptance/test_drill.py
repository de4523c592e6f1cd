"""The drill: a platform that lost all but its project, its key and its bundles has its messages flow again."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.project import ROOT


def test_a_drill_brings_a_platform_back_and_leaves_nothing_behind() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.drill", "--json", "2"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as drill:
        printed, steps = drill.communicate(timeout=600)
    assert drill.returncode == 0, steps
    figures = json.loads(printed)["figures"]
    assert (figures["tenants"], figures["lost_messages"]) == (2, 6)
    assert 0 < figures["restore_s"] < 180
    assert steps.splitlines()[-1] == "drill: previews show no change"


@pytest.mark.parametrize("arguments", [["0"], ["100"], ["-3"], ["two"], ["2", "3"], ["--jsn"]])
def test_a_drill_that_is_mistyped_starts_nothing(arguments: list[str]) -> None:
    ran = subprocess.run([ROOT / "scripts" / "drill", *arguments], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "usage: scripts/drill [--json] [TENANTS], 1 to 99 tenants\n"
