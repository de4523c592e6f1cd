"""A receiver of Alertmanager's webhooks that containers reach, and the alerts that came to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

import docker

from tests.support.containers import bridge_address
from tests.support.waiting import eventually

Labels = dict[str, str]


class Notices:
    """The newest status of every alert that came, by its labels. `host` is the address that containers reach."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._newest: dict[frozenset[tuple[str, str]], str] = {}
        self.host, self.url = "", ""

    def add(self, notice: dict[str, Any]) -> None:
        with self._lock:
            for alert in notice["alerts"]:
                self._newest[frozenset(alert["labels"].items())] = alert["status"]

    def all(self) -> list[Labels]:
        """Return the labels of all alerts that ever came."""
        with self._lock:
            return [dict(labels) for labels in self._newest]

    def statuses(self, alertname: str, **labels: str) -> list[str]:
        """Return the newest status of each alert with these labels that ever came: `firing` or `resolved`."""
        wanted = {"alertname": alertname, **labels}.items()
        with self._lock:
            return [newest for each, newest in self._newest.items() if wanted <= dict(each).items()]

    def came(self, *alertnames: str, **labels: str) -> None:
        """Wait until each has come, whether or not it is over by now."""
        for name in alertnames:
            eventually(f"{name} has come for {labels}", partial(self.statuses, name, **labels))

    def fires(self, alertname: str) -> None:
        """Wait until it fires."""
        eventually(f"{alertname} fires", lambda: "firing" in self.statuses(alertname))

    def over(self, alertname: str, **labels: str) -> None:
        """Wait until it does not fire."""
        eventually(f"{alertname} is over for {labels}", lambda: "firing" not in self.statuses(alertname, **labels))


@contextmanager
def receiver() -> Iterator[Notices]:
    """Serve on the address of Docker's bridge, which every container reaches."""
    notices = Notices()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            notices.add(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Keep the test's output quiet."""

    with closing(docker.from_env()) as client:
        bridge = bridge_address(client)
    with ThreadingHTTPServer((bridge, 0), Handler) as server:
        notices.host, notices.url = bridge, f"http://{bridge}:{server.server_port}/"
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield notices
        finally:
            server.shutdown()
