"""The recorded scrapes: a series of each metric and set of labels, as Prometheus stores them, per job.

They are of RabbitMQ 4.3.6 with every kind of traffic, and of our own endpoints.
`KRYONIX_RECORD=1 pytest tests/acceptance/test_alerts.py` records them again.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Final

from tests.support.project import ROOT
from tests.support.relabelling import Series, exposed

RECORDED: Final = ROOT / "tests/fixtures/scrapes"


@cache
def recorded() -> dict[str, frozenset[str]]:
    """Return every recorded metric and its labels. `job` and `instance` come from Prometheus itself."""
    found: dict[str, frozenset[str]] = {}
    for file in sorted(RECORDED.glob("*.prom")):
        for series in exposed(file.read_text(encoding="utf-8")):
            labels = found.get(series["__name__"], frozenset({"job", "instance"}))
            found[series["__name__"]] = labels | (series.keys() - {"__name__"})
    return found


def record(job: str, stored: Iterable[Series]) -> None:
    """Write the first series of each metric and set of labels. What this platform has none of stays as it was."""
    file = RECORDED / f"{job}.prom"
    stored = list(stored)
    names = {series["__name__"] for series in stored}
    before = exposed(file.read_text(encoding="utf-8")) if file.exists() else ()
    stored += [series for series in before if series["__name__"] not in names]
    shapes: dict[tuple[str, ...], str] = {}
    for series in stored:
        labels = {name: text for name, text in sorted(series.items()) if name not in ("__name__", "job", "instance")}
        text = ",".join(f'{name}="{value}"' for name, value in labels.items())
        line = f"{series['__name__']}{{{text}}} 1"
        shape = (series["__name__"], *labels)
        shapes[shape] = min(line, shapes.get(shape, line))
    RECORDED.mkdir(exist_ok=True)
    file.write_text("\n".join(shapes[shape] for shape in sorted(shapes)) + "\n", encoding="utf-8")
