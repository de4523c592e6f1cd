from __future__ import annotations

import httpx

from kryonix.worker.metrics import WorkerMetrics
from tests.support.project import free_port


def test_head_answers_as_get_without_a_body() -> None:
    metrics, port = WorkerMetrics(), free_port()
    metrics.serve("127.0.0.1", port)
    try:
        got, head = (httpx.request(method, f"http://127.0.0.1:{port}/metrics") for method in ("GET", "HEAD"))
    finally:
        metrics.close()
    assert (got.status_code, head.status_code, head.content) == (200, 200, b"")
    assert b"kryonix_worker_figures_readable" in got.content
    assert head.headers["content-type"] == got.headers["content-type"]
