"""The alerts' tests of rules/*.yaml, and the configuration, by the promtool of the platform's Prometheus."""

from __future__ import annotations

from pathlib import Path

from tests.support import promtool

CASES = sorted((Path(__file__).parent / "rules").glob("*.yaml"))


def test_promtool_accepts_the_configuration_and_every_alerts_test_passes() -> None:
    files = promtool.prometheus_files() | {f"tests/{case.name}": case.read_text(encoding="utf-8") for case in CASES}
    script = "cd /etc/prometheus && promtool check config --lint=all prometheus.yml && promtool test rules tests/*.yaml"
    status, output = promtool.run(promtool.image("prometheus"), script, files, "/etc/prometheus")
    assert status == 0, output
    assert output.count("SUCCESS: 0 rules found") == 0
    assert output.count("rules found") >= 4
