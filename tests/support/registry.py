"""A local image registry with small images, which Docker can pull from."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import secrets
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

import docker

_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Registry:
    """The served content: manifests by tag and by digest, and blobs."""

    def __init__(self, port: int) -> None:
        self.repository = f"127.0.0.1:{port}/t{secrets.token_hex(4)}"
        self._manifests: dict[str, bytes] = {}
        self._blobs: dict[str, bytes] = {}

    def push(self, tag: str, content: str) -> str:
        """Have an image with one file of this content, which no other registry has; return its digest."""
        content = f"{self.repository}: {content}"
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            entry = tarfile.TarInfo("file")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content.encode()))
        layer = gzip.compress(buffer.getvalue(), mtime=0)
        rootfs = {"type": "layers", "diff_ids": [digest(buffer.getvalue())]}
        config = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/none"]}, "rootfs": rootfs}
        blobs = {_CONFIG: json.dumps(config).encode(), _LAYER: layer}
        about = [{"mediaType": kind, "size": len(blob), "digest": digest(blob)} for kind, blob in blobs.items()]
        manifest = json.dumps(
            {"schemaVersion": 2, "mediaType": _MANIFEST, "config": about[0], "layers": about[1:]}
        ).encode()
        self._blobs |= {digest(blob): blob for blob in blobs.values()}
        self._manifests[tag] = self._manifests[digest(manifest)] = manifest
        return digest(manifest)

    def serve_instead(self, wanted: str, tag: str) -> None:
        """Serve a tag's image for a digest, as a compromised registry would."""
        self._manifests[wanted] = self._manifests[tag]

    def find(self, path: str) -> tuple[str, bytes] | None:
        """The content type and the content of a path."""
        kind, _, name = path.rpartition("/")
        if path == "/v2/":
            return "application/json", b"{}"
        if kind.endswith("/manifests") and name in self._manifests:
            return _MANIFEST, self._manifests[name]
        if kind.endswith("/blobs") and name in self._blobs:
            return "application/octet-stream", self._blobs[name]
        return None


@contextmanager
def registry() -> Iterator[Registry]:
    """Run a registry for the block; afterwards remove the images pulled from it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            kind, content = served.find(self.path) or ("application/json", b"")
            self.send_response(200 if content else 404)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(content)))
            if content and kind == _MANIFEST:
                self.send_header("docker-content-digest", digest(content))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served = Registry(server.server_port)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield served
        finally:
            server.shutdown()
            daemon = docker.from_env()
            for image in daemon.images.list():
                names = [*image.tags, *image.attrs.get("RepoDigests", [])]
                if any(name.startswith(served.repository) for name in names):
                    daemon.images.remove(image.id, force=True)
