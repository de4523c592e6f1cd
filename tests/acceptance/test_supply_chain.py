"""Downloads are pinned by hash, and an audit reports known advisories or fails."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.project import ROOT, free_port

LOCKED = (ROOT / "requirements.txt").read_text()


def entry(name: str) -> str:
    """A package of requirements.txt, with its hashes."""
    found = re.search(rf"^{name}==.*\n(?:    --hash=.*\n)+", LOCKED, re.MULTILINE)
    assert found is not None
    return found[0]


def run(folder: Path, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [folder / "scripts" / script],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Copy the inputs of scripts/setup, for tests to change."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    for name in ("pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("locked", ["requirements", "scripts/tools"])
def test_every_package_is_pinned_with_hashes_at_the_requested_version(locked: str) -> None:
    text = (ROOT / f"{locked}.txt").read_text()
    asked = re.findall(r"^([\w.-]+)(?:\[\w+\])?==([\w.]+)", (ROOT / f"{locked}.in").read_text(), re.MULTILINE)
    assert asked
    lines = [line for line in text.splitlines() if not line.startswith((" ", "#"))]
    entries = re.findall(r"^([\w.-]+)(?:\[\w+\])?==([\w.]+)(?: ; [^\\]+)? \\\n    --hash=sha256:", text, re.MULTILINE)
    assert len(entries) == len(lines), "each has a hash"
    pinned = {name.lower().replace("_", "-"): version for name, version in entries}
    assert {name.lower().replace("_", "-"): version for name, version in asked}.items() <= pinned.items()


@pytest.mark.parametrize(
    ("package", "said"),
    [
        (
            re.sub(r"sha256:.", lambda found: "sha256:" + ("0" if found[0][-1] != "0" else "1"), entry("idna")),
            "Nobody should install it",
        ),
        (entry("idna").splitlines()[0].removesuffix("\\").strip() + "\n", "must have a hash"),
    ],
    ids=["another file's hash", "no hash"],
)
def test_setup_refuses_a_file_with_another_hash(checkout: Path, package: str, said: str) -> None:
    (checkout / "requirements.txt").write_text(package)
    refused = run(checkout, "setup")
    assert refused.returncode == 3, refused.stderr
    assert said in refused.stderr
    assert not list((checkout / ".venv").glob("lib/*/site-packages/idna"))
    assert not (checkout / ".venv" / "kryonix-setup").exists(), "the next run does not take it for done"


@contextmanager
def mirror(asked: list[str]) -> Iterator[str]:
    """Serve a package index that sends everybody on to the real one, and note which packages were asked for."""
    real = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path.strip("/"))
            self.send_response(302)
            self.send_header("location", real + self.path)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_setup_downloads_from_the_mirror_of_pips_configuration(checkout: Path) -> None:
    (checkout / "requirements.txt").write_text(entry("idna"))
    asked: list[str] = []
    with mirror(asked) as address:
        (checkout / "pip.conf").write_text(f"[global]\nindex-url = {address}\n")
        cache = str(checkout / "cache")
        settings = {"PIP_CONFIG_FILE": str(checkout / "pip.conf"), "PIP_NO_CACHE_DIR": "1", "UV_CACHE_DIR": cache}
        result = run(checkout, "setup", **settings)
    assert asked == ["uv", "idna"], result.stderr
    assert list((checkout / ".venv").glob("lib/*/site-packages/idna")), result.stderr


def test_tools_run_by_scripts_are_checked_by_hash(checkout: Path) -> None:
    (checkout / "scripts" / "tools.txt").write_text(re.sub("sha256:.{4}", "sha256:0000", entry("idna")))
    refused = run(checkout, "tools")
    assert refused.returncode == 3, refused.stderr
    assert "DO NOT MATCH" in refused.stderr


@contextmanager
def advisories(*known: str) -> Iterator[str]:
    """Serve OSV's protocol, and npm's, and know a vulnerability of each of these: `name`, or `name==version`."""

    def of_pypi(query: Any) -> Any:
        asked, version = query["package"]["name"], query["version"]
        event = [{"introduced": "0"}, {"fixed": "99"}]
        affected = [
            {"package": {"name": asked, "ecosystem": "PyPI"}, "ranges": [{"type": "ECOSYSTEM", "events": event}]}
        ]
        found = {"id": f"PYSEC-{asked}", "aliases": [], "summary": "", "details": "", "affected": affected}
        return {"vulns": [found]} if {asked, f"{asked}=={version}"} & set(known) else {}

    def of_npm(query: Any) -> Any:
        found = {"id": 1, "title": "a fault", "severity": "high", "vulnerable_versions": "<99", "url": "https://test"}
        return {
            asked: [found]
            for asked, versions in query.items()
            if {asked, *(f"{asked}=={version}" for version in versions)} & set(known)
        }

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["content-length"]))
            packed = self.headers["content-encoding"] == "gzip"
            query = json.loads(gzip.decompress(sent) if packed else sent)
            body = json.dumps((of_npm if self.path.startswith("/-/npm/") else of_pypi)(query)).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.send_error(404)  # npm asks which other versions there are, and does without

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def audit(address: str) -> subprocess.CompletedProcess[str]:
    return run(ROOT, "audit", KRYONIX_ADVISORIES=f"{address}/v1/query", KRYONIX_NPM_ADVISORIES=address)


@pytest.mark.parametrize(
    ("known", "status", "said"),
    [
        (("jinja2==2.4.1", "lodash==4.17.4"), 0, "packages asked about, 0 vulnerable, 0 not asked about"),
        (("jinja2==2.4.1", "lodash==4.17.4", "idna"), 1, ": PYSEC-idna"),
        (("jinja2==2.4.1", "lodash==4.17.4", "amqplib"), 1, "amqplib <99: a fault (high), https://test"),
        (("lodash==4.17.4",), 3, "NOT AUDITED: jinja2"),
        (("jinja2==2.4.1",), 3, "NOT AUDITED: lodash"),
    ],
    ids=["nothing known", "Python's", "npm's", "a database that knows nothing", "a registry that knows nothing"],
)
def test_an_audit_lists_known_advisories(known: tuple[str, ...], status: int, said: str) -> None:
    with advisories(*known) as address:
        result = audit(address)
    assert result.returncode == status, result.stdout + result.stderr
    assert said in result.stdout + result.stderr


def test_an_audit_without_advisories_fails() -> None:
    result = audit(f"http://127.0.0.1:{free_port()}")
    assert result.returncode == 3, result.stdout
    assert "NOT AUDITED" in result.stderr
    assert "vulnerable" not in result.stdout
