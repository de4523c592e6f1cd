"""A double of the two comment APIs, on loopback in this process."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

__all__ = ["Forge", "serving"]

TOKEN = "a token of this test"
BOT, SOMEBODY = {"type": "Bot", "id": 1}, {"type": "User", "id": 2}


class Forge:
    """Open requests, their comments, and the calls received."""

    def __init__(self) -> None:
        self.pulls: list[dict[str, Any]] = []
        self.comments: list[dict[str, Any]] = []
        self.writes: list[str] = []
        self.down = False

    def pull(self, number: int, owner: str, branch: str, sha: str) -> None:
        self.pulls.append({"number": number, "head": {"label": f"{owner}:{branch}", "sha": sha}})

    def comment(self, body: str, user: dict[str, Any] = BOT) -> None:
        self.comments.append({"id": len(self.comments) + 1, "body": body, "user": user, "author": user})

    def answer(self, method: str, path: str, query: dict[str, str], body: dict[str, str]) -> Any:
        kind = path.rstrip("0123456789").rstrip("/").rpartition("/")[2]
        if method != "GET":
            self.writes.append(f"{method} {path}")
        if kind == "user":
            return BOT
        if kind == "pulls":
            return _page([p for p in self.pulls if p["head"]["label"] == query["head"]], query)
        if kind in ("comments", "notes") and method == "GET":
            return _page(self.comments, query)
        if kind in ("comments", "notes") and method == "POST":
            self.comment(body["body"])
            return self.comments[-1]
        found = next(c for c in self.comments if str(c["id"]) == path.rpartition("/")[2])
        return found.update(body) or found


def _page(entries: list[dict[str, Any]], query: dict[str, str]) -> list[dict[str, Any]]:
    size = int(query["per_page"])
    first = (int(query["page"]) - 1) * size
    return entries[first : first + size]


@contextmanager
def serving(forge: Forge) -> Iterator[str]:
    """The address at which it answers."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            allowed = TOKEN in (
                self.headers.get("PRIVATE-TOKEN"),
                self.headers.get("Authorization", "")[len("Bearer ") :],
            )
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or "{}")
            url = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            status = 503 if forge.down else 200 if allowed else 401
            found = forge.answer(self.command, url.path, query, body) if status == 200 else {"message": "no"}
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(found).encode())

        do_GET = do_POST = do_PATCH = do_PUT = _answer

        def log_message(self, format: str, *args: Any) -> None:
            """Not into the test's output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
