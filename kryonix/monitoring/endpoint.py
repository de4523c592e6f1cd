"""An HTTP endpoint that serves Prometheus metrics."""

from __future__ import annotations

from typing import Any
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server

from kryonix.errors import InvalidChoice
from kryonix.topology.addresses import host_port


class Endpoint:
    """Answers GET and HEAD of `/metrics` in threads. `option` names the port in errors."""

    def __init__(self, registry: CollectorRegistry, host: str, port: int, *, option: str) -> None:
        """Raises InvalidChoice if the port is not available."""
        try:
            self._server: WSGIServer
            self._server, _ = start_http_server(port, host, registry=registry)
        except (OSError, UnicodeError) as error:
            problem = f"{option}: cannot open {host_port(host, port)}: {getattr(error, 'strerror', None) or error}"
            raise InvalidChoice(f"{problem}. Choose another") from error
        self._server.set_app(_with_head(self._server.get_app()))

    @property
    def port(self) -> int:
        return int(self._server.server_port)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _with_head(app: Any) -> Any:
    """Return the application with HEAD as GET without a body."""

    def answer(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["REQUEST_METHOD"] != "HEAD":
            return app(environ, start_response)
        app({**environ, "REQUEST_METHOD": "GET"}, start_response)
        return []

    return answer
