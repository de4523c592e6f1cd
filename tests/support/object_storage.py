"""A small S3, and Google Cloud Storage, in memory whose answers a test can spoil: refuse, stall, cut off, or lie."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

DATE = "Sun, 29 Nov 2026 02:00:00 GMT"

Fault = Callable[["Handler"], bool]
"""Answers a request in place of the store and returns True, or returns False to let the store answer."""


@dataclass
class Storage:
    """What the store holds, the faults to come, and the requests that came."""

    address: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    always: Fault | None = None
    requests: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)
    honours_conditions: bool = True

    @property
    def settings(self) -> Mapping[str, Any]:
        """Return obstore's settings of this store."""
        keys = {"access_key_id": "key", "secret_access_key": "secret-of-the-store", "region": "us-east-1"}
        return {**keys, "endpoint_url": self.address, "allow_http": True}

    @property
    def google_settings(self) -> Mapping[str, Any]:
        keys = dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
        account = {**keys, "gcs_base_url": self.address, "disable_oauth": True}
        return {"service_account_key": json.dumps(account), "allow_http": True}


class Handler(BaseHTTPRequestHandler):
    storage: Storage
    protocol_version = "HTTP/1.1"

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in {"Content-Length": str(len(body)), "Last-Modified": DATE, **named}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _handle(self) -> None:
        self.storage.requests.append(self.command)
        self.path = unquote(self.path)
        fault = self.storage.faults.pop(0) if self.storage.faults else self.storage.always
        if fault is None or not fault(self):
            getattr(self, f"_{self.command.lower()}")()

    do_GET = do_PUT = do_POST = do_DELETE = _handle

    def _put(self) -> None:
        content = self.body()
        if self.path in self.storage.objects and self.storage.honours_conditions:
            return self.answer(412, error("PreconditionFailed"))
        self.storage.objects[self.path] = content
        return self.answer(200, ETag=etag(content))

    def _get(self) -> None:
        if "?list-type=2" in self.path:
            return self._list()
        content = self.storage.objects.get(self.path)
        if content is None:
            return self.answer(404, error("NoSuchKey"))
        return self.answer(200, content, ETag=etag(content))

    def _list(self) -> None:
        found = [
            f"<Contents><Key>{name.split('/', 2)[2]}</Key><Size>{len(content)}</Size><ETag>x</ETag>"
            "<LastModified>2026-11-29T02:00:00Z</LastModified></Contents>"
            for name, content in self.storage.objects.items()
        ]
        self.answer(200, f"<ListBucketResult>{''.join(found)}</ListBucketResult>".encode())

    def _delete(self) -> None:
        if self.storage.objects.pop(self.path, None) is None:
            return self.answer(404, error("NoSuchKey"))
        return self.answer(204)

    def _post(self) -> None:
        """Delete several objects, as S3 does it."""
        names = re.findall(rb"<Key>(.*?)</Key>", self.body())
        for name in names:
            self.storage.objects.pop(f"/backups/{name.decode()}", None)
        deleted = b"".join(b"<Deleted><Key>%s</Key></Deleted>" % name for name in names)
        self.answer(200, b"<DeleteResult>%s</DeleteResult>" % deleted)

    def log_message(self, format: str, *args: Any) -> None:  # the name is that of the base class
        """Log nothing."""


def etag(content: bytes) -> str:
    return f'"{md5(content, usedforsecurity=False).hexdigest()}"'


def error(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>of the test</Message></Error>".encode()


def answers(status: int, code: str) -> Fault:
    """Return a fault: another status, with an error's code as S3 sends it."""

    def fault(handler: Handler) -> bool:
        handler.body()
        handler.answer(status, error(code))
        return True

    return fault


def stalls(handler: Handler) -> bool:
    """Begin an answer and send nothing more."""
    handler.body()
    handler.send_response(200)
    for name, value in {"Content-Length": "1000", "Last-Modified": DATE, "ETag": '"x"'}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(b"half")
    handler.wfile.flush()
    handler.storage.stopped.wait(30)
    handler.close_connection = True
    return True


def cuts_off(handler: Handler) -> bool:
    """Close the connection without an answer."""
    handler.body()
    handler.close_connection = True
    return True


def writes_and_cuts_off(handler: Handler) -> bool:
    """Do what is asked, and lose the answer."""
    handler.storage.objects[handler.path] = handler.body()
    handler.close_connection = True
    return True


@contextmanager
def running() -> Iterator[Storage]:
    """Yield a store on a free port of this machine."""
    storage = Storage()
    handler = type("Handler", (Handler,), {"storage": storage})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    storage.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield storage
    finally:
        storage.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()
