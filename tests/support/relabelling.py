"""What Prometheus keeps of a scrape: the jobs of its configuration, and their metric relabelling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import re2
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.support.project import ROOT

Series = dict[str, str]
"""The labels of a series, with its name as `__name__`."""

CONFIG: Final = yaml.safe_load((ROOT / "components/monitoring_files/prometheus.yml").read_text(encoding="utf-8"))
JOBS: Final[Mapping[str, Mapping[str, Any]]] = {job["job_name"]: job for job in CONFIG["scrape_configs"]}


def exposed(text: str) -> Iterator[Series]:
    """Return the series of a scrape, before relabelling."""
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield {"__name__": sample.name, **sample.labels}


def kept(job: str, series: Series) -> Series | None:
    """Return the labels that Prometheus stores; None if it drops the series."""
    labels = dict(series)
    for rule in JOBS[job].get("metric_relabel_configs", ()):
        value = ";".join(labels.get(name, "") for name in rule.get("source_labels", ()))
        match = re2.fullmatch(rule.get("regex", "(.*)"), value)
        action = rule.get("action", "replace")
        if (action == "drop" and match) or (action == "keep" and not match):
            return None
        if action == "labeldrop":
            labels = {name: text for name, text in labels.items() if not re2.fullmatch(rule["regex"], name)}
        elif action == "replace" and match:
            labels[rule["target_label"]] = match.group(1) if match.re.groups else value
    return {name: text for name, text in labels.items() if text}
