"""Draw a dashboard as a PNG from its JSON and a Prometheus' answers.

`python -m tests.support.pictures DASHBOARD --prometheus URL --output FILE [--minutes N] [--choose NAME=VALUE …]`
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from kryonix.monitoring.dashboards import ALL
from tests.support.monitored import Prometheus, substituted

PAGE = Path(__file__).with_name("dashboard.html")
WIDTH = 1400
POINTS = 240
"""Samples of a line."""


def main() -> None:
    options = _options()
    dashboard = next(each for each in ALL if each.name == options.dashboard).json()
    choices = dict(choice.split("=", 1) for choice in options.choose)
    variables = {each["name"]: each for each in dashboard["templating"]["list"] if each["type"] == "query"}
    values = {name: choices.get(name, variable.get("allValue", "")) for name, variable in variables.items()}
    end = options.until or time.time()
    step = max(options.minutes * 60 / POINTS, 5)
    drawing = {
        "dashboard": dashboard,
        "range": {"start": end - options.minutes * 60, "end": end, "step": step},
        "choices": [[variable["label"], choices.get(name, "All")] for name, variable in variables.items()],
    }
    with closing(Prometheus(options.prometheus)) as prometheus:
        drawing["answers"] = {
            panel["id"]: [_answer(prometheus, target, values, drawing["range"]) for target in panel["targets"]]
            for panel in dashboard["panels"]
            if panel["type"] != "row"
        }
    _draw(drawing, options.output)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Draw a dashboard as a PNG.")
    parser.add_argument("dashboard", choices=[each.name for each in ALL])
    parser.add_argument("--prometheus", required=True, metavar="URL")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--until", type=float, metavar="UNIX_TIME", help="The picture's end; default: now.")
    parser.add_argument("--choose", action="append", default=[], metavar="NAME=VALUE")
    return parser.parse_args()


def _answer(prometheus: Prometheus, target: dict[str, Any], values: dict[str, str], span: Any) -> dict[str, Any]:
    expr = substituted(target["expr"], values, "1m")
    if target["range"]:
        result = prometheus.over_time(expr, span["start"], span["end"], span["step"])
    else:
        result = prometheus.instant(expr, span["end"])
    return {"target": target, "result": result}


def _draw(drawing: dict[str, Any], output: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 900}, device_scale_factor=1)
        page.goto(PAGE.as_uri())
        page.evaluate(f"draw({json.dumps(drawing)})")  # raises what the page raises
        page.screenshot(path=output, full_page=True)
        browser.close()


if __name__ == "__main__":
    main()
