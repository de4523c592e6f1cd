"""A real Prometheus with the project's configuration and rules, which scrapes services on this machine's ports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import docker
import httpx
import yaml

from kryonix.monitoring.dashboards.grafana import Query
from tests.support import promtool
from tests.support.project import ROOT, free_port
from tests.support.waiting import eventually

__all__ = ["Prometheus", "monitored", "scraping", "substituted"]

FILES = ROOT / "components" / "monitoring_files"
FOLDER = "/tmp/kryonix"


def substituted(expr: str, values: Mapping[str, str], interval: str) -> str:
    """Return a query as Grafana sends it. `values` are the choices at the dashboard's top."""
    for name, value in {**values, "__rate_interval": interval}.items():
        expr = expr.replace(f"${name}", value)
    return expr


def scraping(targets: Mapping[str, list[str]], every_s: float) -> dict[str, Any]:
    """Return the project's configuration for services on other addresses, by job. Other jobs are left out.

    `instance` stays what it is on a platform, so that figures look like there.
    """
    config: dict[str, Any] = yaml.safe_load((FILES / "prometheus.yml").read_text())
    del config["alerting"]  # nothing listens there
    config["global"] |= {"scrape_interval": f"{every_s}s", "scrape_timeout": f"{every_s}s"}
    config["global"]["evaluation_interval"] = f"{every_s}s"
    config["rule_files"] = [f"{FOLDER}/rules/*.yaml"]
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    config["scrape_configs"] = [_job(job, targets[name]) for name, job in jobs.items() if name in targets]
    return config


def _job(job: dict[str, Any], targets: list[str]) -> dict[str, Any]:
    known = [name for each in job.get("static_configs", []) for name in each["targets"]] or targets
    static = [{"targets": [target], "labels": {"instance": name}} for target, name in zip(targets, known, strict=True)]
    # On loopback nobody asks for a password, and its file is not here.
    left = {"basic_auth", "file_sd_configs", "scrape_interval"}
    return {key: value for key, value in job.items() if key not in left} | {"static_configs": static}


class Prometheus:
    """The HTTP API of a Prometheus."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=f"{url}/api/v1/", timeout=60)

    def ask(self, query: Query, values: Mapping[str, str], interval: str = "15s") -> list[dict[str, Any]]:
        """Return a panel's answer now."""
        return self.instant(substituted(query.expr, values, interval))

    def instant(self, expr: str, at: float | None = None) -> list[dict[str, Any]]:
        """Return the answer at a Unix time; default: now."""
        return self._result("query", query=expr, **({} if at is None else {"time": at}))

    def over_time(self, expr: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        return self._result("query_range", query=expr, start=start, end=end, step=step)

    def _result(self, what: str, **params: Any) -> list[dict[str, Any]]:
        answer = self._http.get(what, params=params)
        assert answer.is_success, f"{params['query']}\n{answer.text}"
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return found

    def close(self) -> None:
        self._http.close()


@contextmanager
def monitored(targets: Mapping[str, list[str]], *, every_s: float = 1) -> Iterator[Prometheus]:
    """Run a Prometheus for the block that scrapes these addresses, by job."""
    port = free_port()
    files = {"prometheus.yml": yaml.safe_dump(scraping(targets, every_s))}
    files |= {f"rules/{file.name}": file.read_text() for file in (FILES / "rules").glob("*.yaml")}
    command = [
        f"--config.file={FOLDER}/prometheus.yml",
        f"--storage.tsdb.path={FOLDER}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with closing(docker.from_env()) as client:
        container = client.containers.create(
            promtool.image("prometheus"), command, network_mode="host", labels={"kryonix.test": "1"}, user="0"
        )
        try:
            container.put_archive("/", promtool.archived(files, FOLDER))
            container.start()
            url = f"http://127.0.0.1:{port}"
            eventually("Prometheus is ready", lambda: _ready(url, container), ignoring=(httpx.TransportError,))
            with closing(Prometheus(url)) as prometheus:
                yield prometheus
        finally:
            container.remove(force=True, v=True)


def _ready(url: str, container: Any) -> bool:
    container.reload()
    assert container.status == "running", container.logs().decode()
    return httpx.get(f"{url}/-/ready").is_success
