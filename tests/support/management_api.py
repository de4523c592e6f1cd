"""A local HTTP server in place of a broker's management API."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Api:
    """A running server, and the requests that it has got: method, path with query, and body."""

    url: str
    requests: list[tuple[str, str, bytes]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def outputs(self) -> dict[str, str]:
        """Return the outputs of a platform's stack with this server."""
        return {"management_url": self.url, "admin_username": "u", "admin_password": "s3cret"}


@contextmanager
def served(answer: Answer) -> Iterator[Api]:
    """Answer every request with `answer`."""

    class Server(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            api.requests.append((self.command, self.path, body))
            api.headers.append({name.lower(): value for name, value in self.headers.items()})
            answer(self)

        do_PUT = do_POST = do_DELETE = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.daemon_threads = True
    server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]  # clients that hang up
    threading.Thread(target=server.serve_forever, daemon=True, kwargs={"poll_interval": 0.01}).start()
    api = Api(f"http://127.0.0.1:{server.server_address[1]}")
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()


def reply(to: BaseHTTPRequestHandler, status: int, body: bytes = b"{}") -> None:
    to.send_response(status)
    to.send_header("content-length", str(len(body)))
    to.end_headers()
    to.wfile.write(body)


def by_path(answers: dict[str, Any]) -> Answer:
    """Answer a path, without its query, with JSON, and whoami as RabbitMQ does; any other with 404."""
    known = {"/api/whoami": {"name": "u"}} | answers

    def answer(to: BaseHTTPRequestHandler) -> None:
        found = known.get(to.path.partition("?")[0])
        reply(to, 404 if found is None else 200, json.dumps(found).encode())

    return answer
