"""Bundles in object storage: whole or not there, never written over, whatever the store answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from moto.server import ThreadedMotoServer

from kryonix.backup.errors import BundleExists, UnknownBundle
from kryonix.backup.object_store import SETTINGS_FILE_VARIABLE
from kryonix.backup.store import BundleStore

NAME = "prod/tenants/acme/20261129T020000Z.tar.zst.age"
BUCKET = "backups"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """Yield the address of an S3 server with an empty bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    httpx.put(f"{address}/{BUCKET}").raise_for_status()
    yield address
    server.stop()


@pytest.fixture
def store(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BundleStore:
    settings = tmp_path / "store.json"
    settings.write_text(
        json.dumps(
            {
                "endpoint_url": s3,
                "access_key_id": "key",
                "secret_access_key": "secret",
                "region": "us-east-1",
                "allow_http": True,
            }
        )
    )
    monkeypatch.setenv(SETTINGS_FILE_VARIABLE, str(settings))
    return BundleStore.open(f"s3://{BUCKET}/{tmp_path.name}")


@pytest.mark.parametrize("size", [6, 12 * 1024 * 1024], ids=["one request", "parts"])
def test_a_file_comes_back_and_is_listed_and_never_written_over(store: BundleStore, size: int) -> None:
    data = bytes(size)
    store.put(NAME, data)
    assert store.get(NAME) == data
    with pytest.raises(BundleExists, match=f"{store.address}/{NAME} exists already"):
        store.put(NAME, data[:-1] + b"x")
    [listed] = store.list("prod/")
    assert (listed.name, listed.bytes) == (NAME, size)
    store.delete(NAME)
    store.delete(NAME)
    assert store.list() == []


def test_a_missing_file_is_named_with_its_address(store: BundleStore) -> None:
    with pytest.raises(UnknownBundle, match=f"there is no bundle {store.address}/{NAME}"):
        store.get(NAME)
