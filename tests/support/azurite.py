"""Microsoft's emulator of Azure Blob Storage: a store that shares no code with moto."""

from __future__ import annotations

import base64
import hmac
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from shutil import copytree
from typing import Any

import httpx

from tests.support.project import ROOT, free_port
from tests.support.waiting import eventually

CONTAINER = "backups"
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The key of every Azurite, from its documentation."""


@contextmanager
def running(folder: Path) -> Iterator[Mapping[str, Any]]:
    """Install Azurite in a folder and run it with an empty container. Yield obstore's settings of it."""
    copytree(ROOT / "tests/fixtures/azurite", folder / "azurite")
    install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    subprocess.run(install, cwd=folder / "azurite", check=True, capture_output=True, timeout=300)
    port = free_port()
    command = ["node", "node_modules/azurite/dist/src/blob/main.js", "--blobPort", str(port)]
    options = ["--inMemoryPersistence", "--disableTelemetry", "--silent"]
    with subprocess.Popen([*command, *options], cwd=folder / "azurite", stdout=subprocess.DEVNULL) as process:
        try:
            endpoint = f"http://127.0.0.1:{port}/{_ACCOUNT}"
            made = eventually(
                "Azurite answers", lambda: _make_container(endpoint), process=process, ignoring=(httpx.TransportError,)
            )
            made.raise_for_status()
            yield {"account_name": _ACCOUNT, "account_key": _KEY, "endpoint": endpoint, "allow_http": True}
        finally:
            process.kill()


def _make_container(endpoint: str) -> httpx.Response:
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    signed = "".join(f"{name}:{value}\n" for name, value in headers.items())
    text = "PUT" + "\n" * 12 + f"{signed}/{_ACCOUNT}/{_ACCOUNT}/{CONTAINER}\nrestype:container"
    signature = base64.b64encode(hmac.digest(base64.b64decode(_KEY), text.encode(), "sha256")).decode()
    headers["Authorization"] = f"SharedKey {_ACCOUNT}:{signature}"
    return httpx.put(f"{endpoint}/{CONTAINER}?restype=container", headers=headers)
