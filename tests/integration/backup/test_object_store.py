"""Bundles in object storage: whole or not there, never written over, whatever the store answers."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from moto.server import ThreadedMotoServer

from kryonix.backup.errors import BundleExists, StoreUnreachable, UnknownBundle
from kryonix.backup.object_store import SETTINGS_FILE_VARIABLE
from kryonix.backup.store import BundleStore
from tests.support import azurite
from tests.support.azurite import CONTAINER

NAME = "prod/tenants/acme/20261129T020000Z.tar.zst.age"


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, Any]]:
    """Yield the settings of an S3 server with an empty bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    httpx.put(f"{endpoint}/{CONTAINER}").raise_for_status()
    keys = {"access_key_id": "key", "secret_access_key": "secret", "region": "us-east-1"}
    yield {**keys, "endpoint_url": endpoint, "allow_http": True}
    server.stop()


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Any]]:
    with azurite.running(tmp_path_factory.mktemp("azurite")) as settings:
        yield settings


@pytest.fixture(params=["s3", "azure"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BundleStore:
    settings = tmp_path / "store.json"
    settings.write_text(json.dumps(request.getfixturevalue(request.param)))
    monkeypatch.setenv(SETTINGS_FILE_VARIABLE, str(settings))
    scheme = {"s3": "s3", "azure": "az"}[request.param]
    return BundleStore.open(f"{scheme}://{CONTAINER}/{tmp_path.name}")


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


@pytest.mark.parametrize("store", ["azure"], indirect=True)  # moto looks and writes in two steps
def test_writers_at_the_same_time_make_one_file(store: BundleStore) -> None:
    written = [f"bundle {number}".encode() for number in range(8)]

    def write(data: bytes) -> bytes | None:
        with suppress(BundleExists):
            store.put(NAME, data)
            return data
        return None

    with ThreadPoolExecutor(8) as pool:
        [won] = [each for each in pool.map(write, written) if each]
    assert store.get(NAME) == won


def test_a_container_that_is_not_there_is_named(store: BundleStore) -> None:
    address = store.address.replace(CONTAINER, "absent")
    with pytest.raises(StoreUnreachable, match=f"{address.rsplit('/', 1)[0]}.*: there is no such bucket or container"):
        BundleStore.open(address).put(NAME, b"bundle")


@pytest.mark.parametrize("store", ["azure"], indirect=True)  # moto accepts every key
def test_a_wrong_key_is_refused(store: BundleStore, tmp_path: Path) -> None:
    settings = tmp_path / "store.json"
    key = base64.b64encode(b"another key").decode()
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "account_key": key}))
    with pytest.raises(StoreUnreachable, match="the store refuses: AuthorizationFailure"):
        BundleStore.open(store.address).put(NAME, b"bundle")
